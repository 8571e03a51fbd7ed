// batched_mlp: a dense layer of many candidates in one launch, forward and backward.
//
// Candidate c has W (outputs x inputs) in `weight`, rows of its own in `input` (features x batch) and in `output`. A
// block makes a tile of one product of one candidate: blockIdx.y says whose, blockIdx.x which tile; the grid has as many
// tiles as the widest candidate needs, and blocks beyond a narrower one's end at once. All three products are the same
// loop over two matrices that are read in different directions. Sums are computed in float32 (float64 for doubles), in an
// order that does not depend on time, and rounded once.
//
// Defines: ELEMENT (float, double, bfloat16, float16).

constexpr int ROWS = 32, COLUMNS = 64, DEPTH = 16;
constexpr int THREADS = 128, ACROSS = 16, DOWN = THREADS / ACROSS;
constexpr int TALL = ROWS / DOWN, WIDE = COLUMNS / ACROSS;

using Sum = Wide<ELEMENT>::type;

// A row of the table that says who has what.
struct Part {
    long long reads, inputs, writes, outputs, weight;
};

// Element (i, j) is at[i * row + j * column].
struct Matrix {
    const ELEMENT* at;
    long long row, column;
};

struct Tile {
    int row, column;
    bool exists;
};

__device__ inline Tile tile(long long rows, long long columns) {
    const int across = int((columns + COLUMNS - 1) / COLUMNS);
    Tile found;
    found.row = int(blockIdx.x) / across * ROWS;
    found.column = int(blockIdx.x) % across * COLUMNS;
    found.exists = found.row < rows;
    return found;
}

// This thread's part of a tile of left (rows x depth) times right (depth x columns): rows DOWN apart, columns ACROSS.
__device__ inline void multiply(Sum (&sums)[TALL][WIDE], const Matrix& left, const Matrix& right, const Tile& at,
                                long long rows, long long columns, long long depth) {
    __shared__ Sum lefts[DEPTH][ROWS + 1], rights[DEPTH][COLUMNS + 1];
    const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
    for (long long from = 0; from < depth; from += DEPTH) {
        for (int k = threadIdx.x; k < ROWS * DEPTH; k += THREADS) {  // neighbours in memory to neighbouring threads
            const int i = left.column == 1 ? k / DEPTH : k % ROWS, j = left.column == 1 ? k % DEPTH : k / ROWS;
            const bool exists = at.row + i < rows && from + j < depth;
            lefts[j][i] = exists ? widened(left.at[(at.row + i) * left.row + (from + j) * left.column]) : Sum(0);
        }
        for (int k = threadIdx.x; k < COLUMNS * DEPTH; k += THREADS) {
            const int i = right.column == 1 ? k / COLUMNS : k % DEPTH, j = right.column == 1 ? k % COLUMNS : k / DEPTH;
            const bool exists = from + i < depth && at.column + j < columns;
            rights[i][j] = exists ? widened(right.at[(from + i) * right.row + (at.column + j) * right.column]) : Sum(0);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; ++k)
#pragma unroll
            for (int r = 0; r < TALL; ++r)
#pragma unroll
                for (int c = 0; c < WIDE; ++c) sums[r][c] += lefts[k][down + r * DOWN] * rights[k][across + c * ACROSS];
        __syncthreads();
    }
}

// Rows of `columns` numbers each; to each row is added its bias, if there is any.
__device__ inline void store(ELEMENT* into, const Sum (&sums)[TALL][WIDE], const ELEMENT* bias, const Tile& at,
                             long long rows, long long columns) {
    const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
#pragma unroll
    for (int r = 0; r < TALL; ++r) {
        const int row = at.row + down + r * DOWN;
        if (row >= rows) continue;
        const Sum more = bias ? widened(bias[row]) : Sum(0);
#pragma unroll
        for (int c = 0; c < WIDE; ++c) {
            const int column = at.column + across + c * ACROSS;
            if (column < columns) narrow(sums[r][c] + more, into[row * columns + column]);
        }
    }
}

extern "C" __global__ __launch_bounds__(THREADS) void batched_mlp_forward(
    const ELEMENT* input, const ELEMENT* weight, const ELEMENT* bias, ELEMENT* output, const Part* parts,
    long long batch) {
    const Part part = parts[blockIdx.y];
    const Tile at = tile(part.outputs, batch);
    if (!at.exists) return;
    Sum sums[TALL][WIDE] = {};
    const Matrix left = {weight + part.weight, part.inputs, 1}, right = {input + part.reads * batch, batch, 1};
    multiply(sums, left, right, at, part.outputs, batch, part.inputs);
    store(output + part.writes * batch, sums, bias ? bias + part.writes : nullptr, at, part.outputs, batch);
}

extern "C" __global__ __launch_bounds__(THREADS) void batched_mlp_input_gradient(
    const ELEMENT* of_output, const ELEMENT* weight, ELEMENT* of_input, const Part* parts, long long batch) {
    const Part part = parts[blockIdx.y];
    const Tile at = tile(part.inputs, batch);
    if (!at.exists) return;
    Sum sums[TALL][WIDE] = {};
    const Matrix left = {weight + part.weight, 1, part.inputs}, right = {of_output + part.writes * batch, batch, 1};
    multiply(sums, left, right, at, part.inputs, batch, part.outputs);
    store(of_input + part.reads * batch, sums, nullptr, at, part.inputs, batch);
}

// Of the bias too, unless `of_bias` is null.
extern "C" __global__ __launch_bounds__(THREADS) void batched_mlp_weight_gradient(
    const ELEMENT* of_output, const ELEMENT* input, ELEMENT* of_weight, ELEMENT* of_bias, const Part* parts,
    long long batch) {
    const Part part = parts[blockIdx.y];
    const Tile at = tile(part.outputs, part.inputs);
    if (!at.exists) return;
    const ELEMENT* gradient = of_output + part.writes * batch;
    Sum sums[TALL][WIDE] = {};
    const Matrix left = {gradient, batch, 1}, right = {input + part.reads * batch, 1, batch};
    multiply(sums, left, right, at, part.outputs, part.inputs, batch);
    store(of_weight + part.weight, sums, nullptr, at, part.outputs, part.inputs);
    const int row = at.row + int(threadIdx.x);
    if (of_bias && at.column == 0 && threadIdx.x < ROWS && row < part.outputs) {
        Sum sum = 0;
        for (long long k = 0; k < batch; ++k) sum += widened(gradient[row * batch + k]);
        narrow(sum, of_bias[part.writes + row]);
    }
}
