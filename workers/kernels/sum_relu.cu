// sum_relu: max(0, sum of COUNT tensors), if wanted also the sum itself, and a bit per element that says whether the
// gradient passes; backward: the gradient of each tensor from those of both results.
//
// All tensors have the same dense layout and are read as rows of numbers. A thread has 8 neighbours, whose bits are one
// byte: the backward pass reads those in place of the result, a sixteenth of the bytes. Sums are computed in float32
// (float64 for doubles), left to right, and rounded once.
//
// Defines: ELEMENT (float, double, bfloat16, float16), COUNT 2 to 8, KEEP 1 if the sum itself is a result too.

constexpr int VALUES = 8;
constexpr int PER_VECTOR = 16 / sizeof(ELEMENT);
constexpr int VECTORS = VALUES / PER_VECTOR;

using Sum = Wide<ELEMENT>::type;

struct alignas(16) Values {
    ELEMENT at[VALUES];
};

// Values beyond the end are zero.
__device__ inline Values load(const ELEMENT* from, long long start, long long size) {
    Values values = {};
    if (start + VALUES <= size) {
#pragma unroll
        for (int k = 0; k < VECTORS; ++k)
            reinterpret_cast<uint4*>(&values)[k] = reinterpret_cast<const uint4*>(from + start)[k];
    } else {
#pragma unroll
        for (int k = 0; k < VALUES; ++k)
            if (start + k < size) values.at[k] = from[start + k];
    }
    return values;
}

__device__ inline void store(ELEMENT* into, const Values& values, long long start, long long size) {
    if (start + VALUES <= size) {
#pragma unroll
        for (int k = 0; k < VECTORS; ++k)
            reinterpret_cast<uint4*>(into + start)[k] = reinterpret_cast<const uint4*>(&values)[k];
    } else {
#pragma unroll
        for (int k = 0; k < VALUES; ++k)
            if (start + k < size) into[start + k] = values.at[k];
    }
}

extern "C" __global__ void sum_relu_forward(const ELEMENT* x0, const ELEMENT* x1, const ELEMENT* x2, const ELEMENT* x3,
                                            const ELEMENT* x4, const ELEMENT* x5, const ELEMENT* x6, const ELEMENT* x7,
                                            ELEMENT* rectified, ELEMENT* sum, unsigned char* mask, long long size) {
    const long long group = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    const long long start = group * VALUES;
    if (start >= size) return;
    const ELEMENT* const inputs[8] = {x0, x1, x2, x3, x4, x5, x6, x7};
    Values given[COUNT];
#pragma unroll
    for (int input = 0; input < COUNT; ++input) given[input] = load(inputs[input], start, size);
    Values kept, positive;
    unsigned bits = 0;
#pragma unroll
    for (int k = 0; k < VALUES; ++k) {
        Sum total = widened(given[0].at[k]);
#pragma unroll
        for (int input = 1; input < COUNT; ++input) total += widened(given[input].at[k]);
        narrow(total, kept.at[k]);
        const bool passes = !(widened(kept.at[k]) <= 0);  // so does NaN, as in PyTorch
        positive.at[k] = passes ? kept.at[k] : ELEMENT{};
        bits |= unsigned(passes) << k;
    }
    store(rectified, positive, start, size);
    if constexpr (KEEP) store(sum, kept, start, size);
    mask[group] = (unsigned char)bits;
}

extern "C" __global__ void sum_relu_backward(const ELEMENT* of_rectified, const ELEMENT* of_sum,
                                             const unsigned char* mask, ELEMENT* gradient, long long size) {
    const long long group = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    const long long start = group * VALUES;
    if (start >= size) return;
    const unsigned bits = mask[group];
    Values passed = load(of_rectified, start, size);
#pragma unroll
    for (int k = 0; k < VALUES; ++k)
        if (!(bits >> k & 1)) passed.at[k] = ELEMENT{};
    if constexpr (KEEP) {
        const Values other = load(of_sum, start, size);
#pragma unroll
        for (int k = 0; k < VALUES; ++k) narrow(widened(passed.at[k]) + widened(other.at[k]), passed.at[k]);
    }
    store(gradient, passed, start, size);
}
