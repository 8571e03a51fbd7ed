// activation_overlap: total[i][j] += the units that are both on (above zero) or both off in examples i and j;
// total[i][i] += the units of example i that are finite.
//
// given is examples x units. With c_i the units on in i and S = A A^T the units on in both, the agreement of i and j is
// units - c_i - c_j + 2 S_ij, and S is a product of matrices of bits: a block turns a tile of the input into bits in
// shared memory, and tensor cores multiply it with itself. The input is read once, no code goes to memory. In which
// order a row's units lie in shared memory does not matter, as long as all rows have the same.
//
// A block has 128 rows: the 64 of one group of examples and the 64 of another. Up to 128 examples are one such pair;
// more are all pairs of groups (blockIdx.y), each reading its rows anew.
//
// Defines: ELEMENT (float, bfloat16, float16); BITS 1 for products of bits, 0 for products of bytes (slower where the
// device multiplies bits; kept to measure against); WIDE 1 if every row begins at a multiple of 16 bytes.

constexpr int GROUP = 64;
constexpr int ROWS = 2 * GROUP;
constexpr int WARPS = 16;
constexpr int THREADS = 32 * WARPS;
constexpr int SLOTS = ROWS / WARPS;                  // rows that a warp loads: warp, warp + 16, ...
constexpr int VALUES = 16 / sizeof(ELEMENT);         // of a row that a lane loads at once: 16 bytes
constexpr int COLUMNS = 32 * VALUES;                 // of a tile
constexpr int WORDS = BITS ? 8 : COLUMNS / 4;        // codes of a row: a byte per lane, or a byte per value
constexpr int STRIDE = WORDS + 4;                    // lets the 8 rows x 4 words that a warp reads be in 32 banks
constexpr int BUFFERS = BITS ? 2 : 1;                // two of bytes would not fit
constexpr int STEPS = WORDS / 8;
constexpr int TILES = 8;                             // of 8 columns of the result, per warp

struct Codes {
    unsigned on;       // bit k: value k is above zero
    unsigned strange;  // not 0: one of the values is infinite or NaN
};

// Of 4 words with two values each. A value is on if its magnitude is not 0 and its sign bit is; `carry` is what lifts
// the magnitude of an infinity into the sign bit.
__device__ inline Codes codes_of_pairs(uint4 vector, unsigned carry) {
    const unsigned words[4] = {vector.x, vector.y, vector.z, vector.w};
    unsigned on = 0, strange = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const unsigned magnitude = words[k] & 0x7fff7fffu;
        strange |= magnitude + carry;
        on = (on >> 1) | ((magnitude + 0x7fff7fffu) & ~words[k] & 0x80008000u);
    }
    return {((on >> 12) & 0x0fu) | ((on >> 24) & 0xf0u), strange & 0x80008000u};
}

__device__ inline Codes codes(uint4 vector, bfloat16) { return codes_of_pairs(vector, 0x00800080u); }
__device__ inline Codes codes(uint4 vector, float16) { return codes_of_pairs(vector, 0x04000400u); }
__device__ inline Codes codes(uint4 vector, float) {
    const unsigned words[4] = {vector.x, vector.y, vector.z, vector.w};
    unsigned on = 0, strange = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const unsigned magnitude = words[k] & 0x7fffffffu;
        strange |= magnitude + 0x00800000u;
        on = (on >> 1) | ((magnitude + 0x7fffffffu) & ~words[k] & 0x80000000u);
    }
    return {on >> 28, strange & 0x80000000u};
}

// How many of the values are infinite or NaN; seldom needed.
__device__ __noinline__ int count_strange(uint4 vector) {
    const ELEMENT* values = reinterpret_cast<const ELEMENT*>(&vector);
    int count = 0;
#pragma unroll
    for (int k = 0; k < VALUES; ++k) {
        const float wide = widened(values[k]);
        count += wide - wide != 0.0f;
    }
    return count;
}

// A lane's values of a row; zeros beyond the row's end.
__device__ inline uint4 load(const ELEMENT* row, long long tile, long long units, int lane) {
    uint4 vector = {0, 0, 0, 0};
    const long long start = tile * COLUMNS;
    if constexpr (WIDE) {
        const long long column = start + lane * VALUES;
        if (column < units) vector = *reinterpret_cast<const uint4*>(row + column);
    } else {
        ELEMENT* values = reinterpret_cast<ELEMENT*>(&vector);
#pragma unroll
        for (int k = 0; k < VALUES; ++k) {
            const long long column = start + 32 * k + lane;
            if (column < units) values[k] = row[column];
        }
    }
    return vector;
}

// Each of the low 4 bits into a byte of its own.
__device__ inline unsigned spread(unsigned nibble) { return (nibble * 0x00204081u) & 0x01010101u; }

__device__ inline void store(unsigned* row, int lane, unsigned on) {
    if constexpr (BITS) {
        reinterpret_cast<unsigned char*>(row)[lane] = (unsigned char)on;
    } else {
#pragma unroll
        for (int k = 0; k < VALUES / 4; ++k) row[lane * (VALUES / 4) + k] = spread((on >> (4 * k)) & 0xfu);
    }
}

extern "C" __global__ __launch_bounds__(THREADS, 1) void activation_overlap(
    const ELEMENT* given, int* total, long long examples, long long units) {
    __shared__ unsigned shared_codes[BUFFERS * ROWS * STRIDE];
    __shared__ int shared_on[ROWS];
    __shared__ int shared_strange[ROWS];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    int first = blockIdx.y, second = 1;  // the pair of groups, first < second: (0, 1), (0, 2), (1, 2), (0, 3), ...
    while (first >= second) first -= second++;

    for (int at = threadIdx.x; at < BUFFERS * ROWS * STRIDE; at += THREADS) shared_codes[at] = 0;

    const ELEMENT* rows[SLOTS];
    int on[SLOTS], strange[SLOTS];
    uint4 vectors[SLOTS];
#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot) {
        const int row = warp + WARPS * slot;
        const long long example = (row < GROUP ? first : second - 1) * (long long)GROUP + row;
        rows[slot] = example < examples ? given + example * units : nullptr;
        on[slot] = strange[slot] = 0;
        vectors[slot] = uint4{0, 0, 0, 0};
    }

    const int row_tile = 16 * (warp % 8), column_half = GROUP * (warp / 8);
    const int quad = lane / 4, in_quad = lane % 4;
    int sums[TILES][4] = {};

    const long long tiles = (units + COLUMNS - 1) / COLUMNS;
    long long seen = 0;
    int buffer = 0;
#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot)
        if (rows[slot] && blockIdx.x < tiles) vectors[slot] = load(rows[slot], blockIdx.x, units, lane);
    __syncthreads();  // the zeros are there

    for (long long tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const long long left = units - tile * COLUMNS;
        seen += left < COLUMNS ? left : COLUMNS;
        unsigned* tile_codes = shared_codes + buffer * ROWS * STRIDE;
#pragma unroll
        for (int slot = 0; slot < SLOTS; ++slot) {
            if (!rows[slot]) continue;
            const Codes found = codes(vectors[slot], ELEMENT{});
            on[slot] += __popc(found.on);
            if (found.strange) strange[slot] += count_strange(vectors[slot]);
            store(tile_codes + (warp + WARPS * slot) * STRIDE, lane, found.on);
        }
        __syncthreads();
        if (tile + gridDim.x < tiles) {  // the next tile is on its way while this one is multiplied
#pragma unroll
            for (int slot = 0; slot < SLOTS; ++slot)
                if (rows[slot]) vectors[slot] = load(rows[slot], tile + gridDim.x, units, lane);
        }
#pragma unroll 1
        for (int step = 0; step < STEPS; ++step) {
            const unsigned* upper = tile_codes + (row_tile + quad) * STRIDE + 8 * step + in_quad;
            const unsigned* lower = upper + 8 * STRIDE;
            const unsigned a[4] = {upper[0], lower[0], upper[4], lower[4]};
#pragma unroll
            for (int k = 0; k < TILES; ++k) {
                const unsigned* other = tile_codes + (column_half + 8 * k + quad) * STRIDE + 8 * step + in_quad;
                const unsigned b[2] = {other[0], other[4]};
                if constexpr (BITS)
                    multiply_bits(sums[k], a, b);
                else
                    multiply_bytes(sums[k], a, b);
            }
        }
        // with two buffers, the next tile's barrier comes between this reading and the writing after next
        if constexpr (BUFFERS == 1)
            __syncthreads();
        else
            buffer ^= 1;
    }

#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot) {
        for (int offset = 16; offset; offset /= 2) {
            on[slot] += __shfl_xor_sync(0xffffffffu, on[slot], offset);
            strange[slot] += __shfl_xor_sync(0xffffffffu, strange[slot], offset);
        }
        if (lane == 0) {
            shared_on[warp + WARPS * slot] = on[slot];
            shared_strange[warp + WARPS * slot] = strange[slot];
        }
    }
    __syncthreads();

#pragma unroll
    for (int k = 0; k < TILES; ++k) {
#pragma unroll
        for (int part = 0; part < 4; ++part) {
            const int i = row_tile + quad + 8 * (part / 2);
            const int j = column_half + 8 * k + 2 * in_quad + part % 2;
            const bool within = (i < GROUP) == (j < GROUP);
            // a group is in many pairs; what its examples have among themselves is added by one of them
            if (within && (first != 0 || (i < GROUP && second != 1))) continue;
            const long long row = (i < GROUP ? first : second - 1) * (long long)GROUP + i;
            const long long column = (j < GROUP ? first : second - 1) * (long long)GROUP + j;
            if (row >= examples || column >= examples) continue;
            int value = int(seen) - shared_on[i] - shared_on[j] + 2 * sums[k][part];
            if (i == j) value -= shared_strange[i];
            atomicAdd(total + row * examples + column, value);
        }
    }
}
