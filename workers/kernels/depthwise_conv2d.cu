// depthwise_conv2d: every channel is convolved with a filter of its own, borders of KERNEL / 2 zeros; forward, the
// gradient of the input, the gradient of the filters.
//
// Tensors are channels-last: batch x height x width x channels; filters are channels x KERNEL x KERNEL. A thread has
// CHANNELS neighbouring channels and TILE neighbouring columns: of a row it reads the columns that its tile needs once,
// and uses each of them for several results. Neighbouring threads have neighbouring channels, so that a warp reads
// whole cache lines; what threads of neighbouring tiles and rows read twice comes from the cache. Sums are float32.
//
// Defines: ELEMENT (float, bfloat16, float16), KERNEL (3, 5, 7), STRIDE (1, 2), TILE (an even number), CHANNELS (1, 2).

constexpr int BORDER = KERNEL / 2;
constexpr int TAPS = KERNEL * KERNEL;
constexpr int ROWS = 4;        // of results that a thread makes with the filters it has loaded
constexpr int THREADS = 128;   // of a block
constexpr int BLOCKS = KERNEL == 3 ? 6 : KERNEL == 5 ? 4 : 2;  // at once: loads in flight, for as many registers

struct alignas(CHANNELS * sizeof(ELEMENT)) Channels {
    ELEMENT at[CHANNELS];
};

// Columns first ... first + COUNT of a row, as float32; zeros beside the image.
template <int COUNT>
__device__ inline void load_columns(float (&into)[COUNT][CHANNELS], const ELEMENT* row, int first, int width,
                                    int channels) {
#pragma unroll
    for (int k = 0; k < COUNT; ++k) {
        Channels values = {};
        const int column = first + k;
        if (column >= 0 && column < width)
            values = *reinterpret_cast<const Channels*>(row + (long long)column * channels);
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) into[k][c] = widened(values.at[c]);
    }
}

__device__ inline void store_columns(ELEMENT* row, const float (&values)[TILE][CHANNELS], int first, int width,
                                     int channels) {
#pragma unroll
    for (int t = 0; t < TILE; ++t) {
        if (first + t >= width) continue;
        Channels rounded;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) narrow(values[t][c], rounded.at[c]);
        *reinterpret_cast<Channels*>(row + (long long)(first + t) * channels) = rounded;
    }
}

// The filters of this thread's channels; turned by half a turn if `turned`.
__device__ inline void load_filters(float (&into)[TAPS][CHANNELS], const ELEMENT* filters, int channel, bool turned) {
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap)
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c)
            into[tap][c] = widened(filters[(long long)(channel + c) * TAPS + (turned ? TAPS - 1 - tap : tap)]);
}

struct Place {
    int channel, column, row, image;
    bool exists;
};

// What the thread makes of results of height x width: TILE columns, `rows` rows.
__device__ inline Place place(long long batch, int channels, int height, int width, int rows) {
    const unsigned groups = channels / CHANNELS, tiles = (width + TILE - 1) / TILE;
    const unsigned strips = (height + rows - 1) / rows;
    const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    Place found;
    found.exists = index < batch * strips * tiles * groups;
    unsigned rest = unsigned(index);  // there are less than 2^32 of them
    found.channel = rest % groups * CHANNELS;
    rest /= groups;
    found.column = rest % tiles * TILE;
    rest /= tiles;
    found.row = rest % strips * rows;
    found.image = rest / strips;
    return found;
}

// Also the gradient of the input where the stride is 1: a convolution of the result's with the filters turned.
extern "C" __global__ __launch_bounds__(THREADS, BLOCKS) void depthwise_forward(
    const ELEMENT* input, const ELEMENT* filters, ELEMENT* output, long long batch, long long channels,
    long long height, long long width, long long out_height, long long out_width, long long turned) {
    constexpr int WINDOW = (TILE - 1) * STRIDE + KERNEL;
    const Place at = place(batch, channels, out_height, out_width, ROWS);
    if (!at.exists) return;
    float taps[TAPS][CHANNELS];
    load_filters(taps, filters, at.channel, turned);
    const ELEMENT* image = input + at.image * height * width * channels + at.channel;
    ELEMENT* result = output + at.image * out_height * out_width * channels + at.channel;
#pragma unroll 1
    for (int row = at.row; row < at.row + ROWS && row < out_height; ++row) {
        float sums[TILE][CHANNELS] = {};
#pragma unroll
        for (int i = 0; i < KERNEL; ++i) {
            const int from = row * STRIDE - BORDER + i;
            if (from < 0 || from >= height) continue;
            float window[WINDOW][CHANNELS];
            load_columns(window, image + from * width * channels, at.column * STRIDE - BORDER, width, channels);
#pragma unroll
            for (int t = 0; t < TILE; ++t)
#pragma unroll
                for (int j = 0; j < KERNEL; ++j)
#pragma unroll
                    for (int c = 0; c < CHANNELS; ++c)
                        sums[t][c] += window[t * STRIDE + j][c] * taps[i * KERNEL + j][c];
        }
        store_columns(result + row * out_width * channels, sums, at.column, out_width, channels);
    }
}

// The gradient of the input where the stride is 2: a column t of the tile, which begins at an even one, is reached
// through tap j from column (t + BORDER - j) / 2 of the result, if that is whole.
extern "C" __global__ __launch_bounds__(THREADS, BLOCKS) void depthwise_input_gradient(
    const ELEMENT* of_output, const ELEMENT* filters, ELEMENT* of_input, long long batch, long long channels,
    long long height, long long width, long long out_height, long long out_width) {
    constexpr int BEFORE = BORDER / 2;
    constexpr int WINDOW = BEFORE + (TILE - 1 + BORDER) / 2 + 1;
    const Place at = place(batch, channels, height, width, ROWS);
    if (!at.exists) return;
    float taps[TAPS][CHANNELS];
    load_filters(taps, filters, at.channel, false);
    const ELEMENT* gradient = of_output + at.image * out_height * out_width * channels + at.channel;
    ELEMENT* result = of_input + at.image * height * width * channels + at.channel;
#pragma unroll 1
    for (int row = at.row; row < at.row + ROWS && row < height; ++row) {
        float sums[TILE][CHANNELS] = {};
#pragma unroll
        for (int i = 0; i < KERNEL; ++i) {
            const int twice = row + BORDER - i;
            if (twice < 0 || twice & 1 || twice / 2 >= out_height) continue;
            float window[WINDOW][CHANNELS];
            load_columns(window, gradient + twice / 2 * out_width * channels, at.column / 2 - BEFORE, out_width,
                         channels);
#pragma unroll
            for (int t = 0; t < TILE; ++t)
#pragma unroll
                for (int j = 0; j < KERNEL; ++j)
                    if ((t + BORDER - j) % 2 == 0)
#pragma unroll
                        for (int c = 0; c < CHANNELS; ++c)
                            sums[t][c] += window[(t + BORDER - j) / 2 + BEFORE][c] * taps[i * KERNEL + j][c];
        }
        store_columns(result + row * width * channels, sums, at.column, width, channels);
    }
}

// The gradient of the filters, as parts that are still to be added up: gridDim.y x TAPS x channels. Which thread adds
// up what does not depend on time, so neither does the result. A block has `lanes` groups of channels.
extern "C" __global__ __launch_bounds__(THREADS, BLOCKS) void depthwise_filter_gradient(
    const ELEMENT* input, const ELEMENT* of_output, float* parts, long long batch, long long channels,
    long long height, long long width, long long out_height, long long out_width, long long lanes) {
    constexpr int WINDOW = (TILE - 1) * STRIDE + KERNEL;
    __shared__ float shared_sums[THREADS][CHANNELS];
    const int lane = threadIdx.x % int(lanes), position = threadIdx.x / int(lanes), positions = THREADS / int(lanes);
    const int channel = (blockIdx.x * int(lanes) + lane) * CHANNELS;
    const bool works = position < positions && channel < channels;
    const unsigned tiles = (out_width + TILE - 1) / TILE;
    const long long strips = batch * out_height * tiles;
    float sums[TAPS][CHANNELS] = {};
    if (works) {
        for (long long strip = blockIdx.y * (long long)positions + position; strip < strips;
             strip += gridDim.y * (long long)positions) {
            const unsigned line = unsigned(strip) / tiles;
            const int column = unsigned(strip) % tiles * TILE;
            const int row = line % unsigned(out_height);
            const long long image = line / unsigned(out_height);
            float gradient[TILE][CHANNELS];
            load_columns(gradient, of_output + (image * out_height + row) * out_width * channels + channel, column,
                         out_width, channels);
#pragma unroll
            for (int i = 0; i < KERNEL; ++i) {
                const int from = row * STRIDE - BORDER + i;
                if (from < 0 || from >= height) continue;
                float window[WINDOW][CHANNELS];
                load_columns(window, input + (image * height + from) * width * channels + channel,
                             column * STRIDE - BORDER, width, channels);
#pragma unroll
                for (int t = 0; t < TILE; ++t)
#pragma unroll
                    for (int j = 0; j < KERNEL; ++j)
#pragma unroll
                        for (int c = 0; c < CHANNELS; ++c)
                            sums[i * KERNEL + j][c] += gradient[t][c] * window[t * STRIDE + j][c];
            }
        }
    }
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) {
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) shared_sums[threadIdx.x][c] = sums[tap][c];
        __syncthreads();
        if (works && position == 0) {
#pragma unroll
            for (int c = 0; c < CHANNELS; ++c) {
                float sum = 0;
                for (int other = 0; other < positions; ++other) sum += shared_sums[other * int(lanes) + lane][c];
                parts[(blockIdx.y * (long long)TAPS + tap) * channels + channel + c] = sum;
            }
        }
        __syncthreads();
    }
}
