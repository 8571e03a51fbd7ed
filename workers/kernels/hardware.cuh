// What every operator builds on: number formats, and the instructions that C++ has no words for.
//
// No header is included, so that a compiler at run time needs nothing but this text. The tests put the same names in
// plain C++ in its place and run the operators on the CPU.

struct bfloat16 {
    unsigned short bits;
};

struct float16 {
    unsigned short bits;
};

// The numbers that sums are computed in.
template <class Element>
struct Wide {
    using type = float;
};
template <>
struct Wide<double> {
    using type = double;
};

__device__ inline float widened(float value) { return value; }
__device__ inline double widened(double value) { return value; }
__device__ inline float widened(bfloat16 value) { return __uint_as_float(unsigned(value.bits) << 16); }
__device__ inline float widened(float16 value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
}

// To nearest, ties to even.
__device__ inline void narrow(float value, float& into) { into = value; }
__device__ inline void narrow(double value, double& into) { into = value; }
__device__ inline void narrow(float value, bfloat16& into) {
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(into.bits) : "f"(value));
}
__device__ inline void narrow(float value, float16& into) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(into.bits) : "f"(value));
}

// Warp-wide: sums += a b^T of bits, 16 x 256 by 8 x 256: the units that are on in both.
__device__ inline void multiply_bits(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Warp-wide: sums += a b^T of signed bytes, 16 x 32 by 8 x 32.
__device__ inline void multiply_bytes(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
