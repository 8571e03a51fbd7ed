// Runs CUDA C++ on the CPU, one block after the other, its threads as coroutines: slow, and the same results.
//
// Stands in the place of hardware.cuh; what that file says in PTX is said in plain C++ here, after the PTX ISA's
// description of the fragments of mma.m16n8k256 (.b1) and mma.m16n8k32 (.s8).
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __device__
#define __global__
#define __noinline__
#define __restrict__
#define __shared__ static
#define __launch_bounds__(...)

struct Index {
    unsigned x = 0, y = 0, z = 0;
};
struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {
constexpr unsigned MOST_THREADS = 1024, STACK = 1 << 16, MOST_WORDS = 8;
struct Thread {
    ucontext_t context;
    char stack[STACK];
    bool done;
};
static Thread* threads = (Thread*)malloc(MOST_THREADS * sizeof(Thread));
static ucontext_t scheduler;
static unsigned current;
static void (*body)();

inline void give_way() { swapcontext(&threads[current].context, &scheduler); }
inline void begin() {
    body();
    threads[current].done = true;
    give_way();
}

// All threads of a group come here before any goes on.
struct Barrier {
    unsigned arrived = 0, generation = 0;
    void wait(unsigned size) {
        const unsigned mine = generation;
        if (++arrived == size) {
            arrived = 0;
            ++generation;
        } else {
            while (generation == mine) give_way();
        }
    }
};
static Barrier block_barrier;
static Barrier warp_barriers[MOST_THREADS / 32];
static unsigned exchanged[MOST_THREADS / 32][32 * MOST_WORDS];  // per warp: what its 32 lanes show each other

// Each lane shows `count` words; returns those of all lanes, in order. release() when they were read.
inline const unsigned* show(const unsigned* words, unsigned count) {
    const unsigned warp = current / 32, lane = current % 32;
    memcpy(exchanged[warp] + lane * count, words, 4 * count);
    warp_barriers[warp].wait(32);
    return exchanged[warp];
}
inline void release() { warp_barriers[current / 32].wait(32); }

inline void run(Index grid, unsigned block, void (*kernel)()) {
    body = kernel;
    gridDim = grid;
    blockDim = {block, 1, 1};
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
            for (unsigned at = 0; at < block; ++at) {
                Thread& thread = threads[at];
                thread.done = false;
                getcontext(&thread.context);
                thread.context.uc_stack.ss_sp = thread.stack;
                thread.context.uc_stack.ss_size = STACK;
                thread.context.uc_link = nullptr;
                makecontext(&thread.context, begin, 0);
            }
            for (bool left = true; left;) {
                left = false;
                for (current = 0; current < block; ++current) {
                    if (threads[current].done) continue;
                    threadIdx.x = current;
                    swapcontext(&scheduler, &threads[current].context);
                    left |= !threads[current].done;
                }
            }
        }
}

template <class T>
struct Argument {
    static T of(long long value) { return T(value); }
};
template <class T>
struct Argument<T*> {
    static T* of(long long value) { return reinterpret_cast<T*>(value); }
};
static const long long* arguments;
template <unsigned...>
struct Positions {};
template <class... A, unsigned... I>
void call(void (*kernel)(A...), Positions<I...>) {
    kernel(Argument<A>::of(arguments[I])...);
}
template <class... A>
void call(void (*kernel)(A...)) {
    call(kernel, Positions<__integer_pack(unsigned(sizeof...(A)))...>{});
}
}  // namespace emulator
#define EMULATED(entry)                                                                           \
    extern "C" void emulated_##entry(unsigned x, unsigned y, unsigned block, const long long* given) { \
        emulator::arguments = given;                                                              \
        emulator::run({x, y, 1}, block, [] { emulator::call(entry); });                           \
    }

inline void __syncthreads() { emulator::block_barrier.wait(blockDim.x); }
inline int __popc(unsigned word) { return __builtin_popcount(word); }
template <class T>
T atomicAdd(T* at, T value) {
    const T before = *at;
    *at += value;
    return before;
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int offset) {
    static_assert(sizeof(T) == 4);
    unsigned word;
    memcpy(&word, &value, 4);
    word = emulator::show(&word, 1)[(emulator::current % 32) ^ offset];
    emulator::release();
    memcpy(&value, &word, 4);
    return value;
}

struct bfloat16 {
    unsigned short bits;
};
struct float16 {
    unsigned short bits;
};
template <class Element>
struct Wide {
    using type = float;
};
template <>
struct Wide<double> {
    using type = double;
};
inline float from_bits(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline float widened(float value) { return value; }
inline double widened(double value) { return value; }
inline float widened(bfloat16 value) { return from_bits(unsigned(value.bits) << 16); }
inline float widened(float16 value) {
    const int exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
    const float size = exponent == 31  ? (fraction ? __builtin_nanf("") : __builtin_inff())
                       : exponent == 0 ? __builtin_ldexp(float(fraction), -24)
                                       : __builtin_ldexp(float(fraction + 1024), exponent - 25);
    return value.bits >> 15 ? -size : size;
}
inline void narrow(float value, float& into) { into = value; }
inline void narrow(double value, double& into) { into = value; }
inline void narrow(float value, bfloat16& into) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    into.bits = __builtin_isnan(value) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline void narrow(float value, float16& into) {
    if (__builtin_isnan(value)) {
        into.bits = 0x7fff;
        return;
    }
    const float size = __builtin_fabs(value);
    unsigned bits = 0x7c00;
    if (size == 0.0f) {
        bits = 0;
    } else if (size < 65520.0f) {
        int exponent = 0;
        __builtin_frexp(size, &exponent);
        const int shift = exponent - 11 > -24 ? exponent - 11 : -24;  // of the last place
        const unsigned places = unsigned(__builtin_nearbyint(__builtin_ldexp(size, -shift)));
        bits = shift == -24 ? places : ((shift + 24) << 10) + places;
    }
    into.bits = bits | (__builtin_signbit(value) ? 0x8000 : 0);
}

template <class Product>
inline void multiply(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2], Product product) {
    const unsigned words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const unsigned* all = emulator::show(words, 6);
    const int lane = emulator::current % 32, quad = lane / 4, in_quad = lane % 4;
    for (int part = 0; part < 4; ++part) {
        const int column = 2 * in_quad + part % 2;
        for (int k = 0; k < 4; ++k)
            for (int half = 0; half < 2; ++half)
                sums[part] += product(all[(4 * quad + k) * 6 + 2 * half + part / 2], all[(4 * column + k) * 6 + 4 + half]);
    }
    emulator::release();
}
inline void multiply_bits(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply(sums, a, b, [](unsigned x, unsigned y) { return __popc(x & y); });
}
inline void multiply_bytes(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply(sums, a, b, [](unsigned x, unsigned y) {
        int sum = 0;
        for (int k = 0; k < 32; k += 8) sum += int((signed char)(x >> k)) * int((signed char)(y >> k));
        return sum;
    });
}
