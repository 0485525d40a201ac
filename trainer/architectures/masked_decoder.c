/* The masked decoder's three convolutions, a term at a time in the processor's registers.
 *
 * Each of TensorFlow's operations reads and writes whole arrays of tens of megabytes; here what a cell gives is
 * multiplied and added to the cells that need it before it leaves the registers. What rows, terms and readers are, and
 * the algebra: `term_plan.py`. `native_library.py` compiles this file where a compiler is; without one the same
 * convolutions are TensorFlow's (`masked_convolution.py`).
 *
 * All arrays are C-contiguous, float32 or, for plans, int32. Nothing is allocated and nothing kept between calls.
 */
#include <stddef.h>
#include <stdint.h>

#define IN 64  /* channels that the first convolution writes and the second reads */
#define OUT 32 /* channels that the second writes and the third reads; also the first one's 27 taps, filled up */
#define TAPS 27

/* TILE stimulations at once: with OUT channels each, half of the registers hold their sums. */
#ifdef __AVX512F__
#define LANES 16
#define TILE 8
#else
#define LANES 8
#define TILE 2
#endif
#define PER_OUT (OUT / LANES)
#define HELD 64 /* rows of a gradient that wait for their outer product, at least TILE */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define EACH _Pragma("GCC unroll 32") for
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec value) { *(vec *)to = value; }

/* rows[n_cells + r] = rows[higher] - rows[lower], each of `width` numbers; parents come before their differences. */
void m2m_differences(float *rows, int n_cells, const int32_t *parents, int n_rows, int width) {
    for (int r = 0; r < n_rows; r++) {
        float *to = rows + (size_t)(n_cells + r) * width;
        const float *higher = rows + (size_t)parents[2 * r] * width, *lower = rows + (size_t)parents[2 * r + 1] * width;
        for (int c = 0; c < width; c++) to[c] = higher[c] - lower[c];
    }
}

/* The transpose: what the differences got goes to those that they were made of. */
void m2m_differences_back(float *rows, int n_cells, const int32_t *parents, int n_rows, int width) {
    for (int r = n_rows - 1; r >= 0; r--) {
        const float *from = rows + (size_t)(n_cells + r) * width;
        float *higher = rows + (size_t)parents[2 * r] * width, *lower = rows + (size_t)parents[2 * r + 1] * width;
        for (int c = 0; c < width; c++) higher[c] += from[c];
        for (int c = 0; c < width; c++) lower[c] -= from[c];
    }
}

INLINE void spread_product(const int n, const float *row, const float *weight, const int32_t *reader, int n_readers,
                           float *y, size_t stride) {
    vec sum[TILE][PER_OUT];
    EACH (int i = 0; i < n; i++) EACH (int j = 0; j < PER_OUT; j++) sum[i][j] = (vec){0};
    for (int k = 0; k < IN; k++) {
        vec w[PER_OUT];
        EACH (int j = 0; j < PER_OUT; j++) w[j] = load(weight + k * OUT + j * LANES);
        EACH (int i = 0; i < n; i++) EACH (int j = 0; j < PER_OUT; j++) sum[i][j] += row[i * IN + k] * w[j];
    }
    for (int r = 0; r < n_readers; r++) {
        float *to = y + reader[r] * stride;
        EACH (int i = 0; i < n; i++) EACH (int j = 0; j < PER_OUT; j++) {
            float *at = to + i * OUT + j * LANES;
            store(at, load(at) + sum[i][j]);
        }
    }
}

/* y[reader] = relu(bias + sum over its terms of rows[row] . weights[kernel]): rows (.., batch, IN), weights (27, IN, OUT),
 * y (n_out, batch, OUT). */
void m2m_second(const float *rows, const float *weights, const float *bias, const int32_t *row, const int32_t *kernel,
                const int32_t *first, const int32_t *reader, int n_terms, int n_out, int batch, float *y) {
    const size_t stride = (size_t)batch * OUT, n_rows = (size_t)n_out * batch;
    for (size_t o = 0; o < n_rows; o++)
        for (int k = 0; k < OUT; k++) y[o * OUT + k] = bias[k];
    for (int t = 0; t < n_terms; t++) {
        const float *from = rows + (size_t)row[t] * batch * IN, *weight = weights + (size_t)kernel[t] * IN * OUT;
        const int32_t *to = reader + first[t];
        const int n_readers = first[t + 1] - first[t];
        int b = 0;
        for (; b + TILE <= batch; b += TILE)
            spread_product(TILE, from + b * IN, weight, to, n_readers, y + b * OUT, stride);
        for (; b < batch; b++) spread_product(1, from + b * IN, weight, to, n_readers, y + b * OUT, stride);
    }
    for (size_t k = 0; k < n_rows * OUT; k++) y[k] = y[k] > 0.0f ? y[k] : 0.0f;
}

/* to[n][IN] += g[n][OUT] . weight[OUT][IN] */
INLINE void add_product(const int n, const float *g, const float *weight, float *to) {
    for (int half = 0; half < IN; half += OUT) {
        vec sum[TILE][PER_OUT];
        EACH (int i = 0; i < n; i++) EACH (int j = 0; j < PER_OUT; j++) sum[i][j] = load(to + i * IN + half + j * LANES);
        for (int k = 0; k < OUT; k++) {
            vec w[PER_OUT];
            EACH (int j = 0; j < PER_OUT; j++) w[j] = load(weight + k * IN + half + j * LANES);
            EACH (int i = 0; i < n; i++) EACH (int j = 0; j < PER_OUT; j++) sum[i][j] += g[i * OUT + k] * w[j];
        }
        EACH (int i = 0; i < n; i++) EACH (int j = 0; j < PER_OUT; j++) store(to + i * IN + half + j * LANES, sum[i][j]);
    }
}

/* to[IN][OUT] += a[n][IN]^T . g[n][OUT] */
INLINE void add_outer(int n, const float *const *a, const float *g, float *to) {
    for (int c = 0; c < IN; c += TILE) {
        vec sum[TILE][PER_OUT];
        EACH (int i = 0; i < TILE; i++) EACH (int j = 0; j < PER_OUT; j++) sum[i][j] = load(to + (c + i) * OUT + j * LANES);
        for (int k = 0; k < n; k++) {
            vec w[PER_OUT];
            EACH (int j = 0; j < PER_OUT; j++) w[j] = load(g + k * OUT + j * LANES);
            EACH (int i = 0; i < TILE; i++) EACH (int j = 0; j < PER_OUT; j++) sum[i][j] += a[k][c + i] * w[j];
        }
        EACH (int i = 0; i < TILE; i++) EACH (int j = 0; j < PER_OUT; j++) store(to + (c + i) * OUT + j * LANES, sum[i][j]);
    }
}

/* g[i][tap] = the latent cell that a stimulation's cell reads by each tap; what lies outside, and the filling, is 0. */
INLINE void gather_taps(const int n, const float *latent, const int32_t *tap, int batch, float *g) {
    for (int i = 0; i < n; i++) {
        for (int t = 0; t < TAPS; t++) g[i * OUT + t] = tap[t] < 0 ? 0.0f : latent[(size_t)tap[t] * batch + i];
        for (int t = TAPS; t < OUT; t++) g[i * OUT + t] = 0.0f;
    }
}

/* rows = relu(bias + taps of latent . weights): latent (.., batch), tap (n_cells, 27), weights (OUT, IN), rows (n_cells, batch, IN). */
void m2m_first(const float *latent, const int32_t *tap, const float *weights, const float *bias, int n_cells, int batch,
               float *rows) {
    float g[TILE * OUT] __attribute__((aligned(64)));
    for (int c = 0; c < n_cells; c++) {
        for (int b = 0; b < batch;) {
            const int n = batch - b < TILE ? 1 : TILE;
            float *to = rows + ((size_t)c * batch + b) * IN;
            for (int i = 0; i < n; i++)
                for (int k = 0; k < IN; k++) to[i * IN + k] = bias[k];
            gather_taps(n, latent + b, tap + c * TAPS, batch, g);
            if (n == TILE) add_product(TILE, g, weights, to);
            else add_product(1, g, weights, to);
            for (int k = 0; k < n * IN; k++) to[k] = to[k] > 0.0f ? to[k] : 0.0f;
            b += n;
        }
    }
}

/* The gradients of `m2m_first`: d_rows, which is cut to where rows is positive; transposed (IN, OUT). d_latent as latent,
 * d_weights (IN, OUT) and d_bias are added to. */
void m2m_first_back(const float *latent, const int32_t *tap, const float *rows, const float *transposed, int n_cells,
                    int batch, float *d_rows, float *d_latent, float *d_weights, float *d_bias) {
    float g[HELD * OUT] __attribute__((aligned(64))), d_taps[TILE * OUT] __attribute__((aligned(64)));
    const float *held[HELD];
    const int32_t none = 0;
    int n_held = 0;
    for (int c = 0; c < n_cells; c++) {
        for (int b = 0; b < batch;) {
            const int n = batch - b < TILE ? 1 : TILE;
            const size_t at = ((size_t)c * batch + b) * IN;
            for (int i = 0; i < n; i++) {
                float *d = d_rows + at + i * IN;
                const float *row = rows + at + i * IN;
                for (int k = 0; k < IN; k++) d[k] = row[k] > 0.0f ? d[k] : 0.0f;
                for (int k = 0; k < IN; k++) d_bias[k] += d[k];
                held[n_held + i] = d;
            }
            gather_taps(n, latent + b, tap + c * TAPS, batch, g + n_held * OUT);
            for (int k = 0; k < n * OUT; k++) d_taps[k] = 0.0f;
            if (n == TILE) spread_product(TILE, d_rows + at, transposed, &none, 1, d_taps, 0);
            else spread_product(1, d_rows + at, transposed, &none, 1, d_taps, 0);
            for (int t = 0; t < TAPS; t++) {
                if (tap[c * TAPS + t] < 0) continue;
                float *to = d_latent + (size_t)tap[c * TAPS + t] * batch + b;
                for (int i = 0; i < n; i++) to[i] += d_taps[i * OUT + t];
            }
            n_held += n;
            b += n;
            if (n_held + TILE > HELD || (b == batch && c + 1 == n_cells)) {
                add_outer(n_held, held, g, d_weights);
                n_held = 0;
            }
        }
    }
}

/* The gradients of `m2m_second` before its relu: upstream as y; transposed (27, OUT, IN). d_rows and d_weights
 * (27, IN, OUT) are added to. */
void m2m_second_back(const float *rows, const float *transposed, const int32_t *row, const int32_t *kernel,
                     const int32_t *first, const int32_t *reader, int n_terms, int batch, const float *upstream,
                     float *d_rows, float *d_weights) {
    float g[HELD * OUT] __attribute__((aligned(64)));
    const float *held[HELD];
    int n_held = 0;
    for (int t = 0; t < n_terms; t++) {
        const float *weight = transposed + (size_t)kernel[t] * IN * OUT;
        for (int b = 0; b < batch;) {
            const int n = batch - b < TILE ? 1 : TILE;
            const size_t at = (size_t)row[t] * batch + b;
            float *mine = g + n_held * OUT;
            for (int i = 0; i < n; i++) {
                vec sum[PER_OUT];
                EACH (int j = 0; j < PER_OUT; j++) sum[j] = (vec){0};
                for (int32_t r = first[t]; r < first[t + 1]; r++) {
                    const float *from = upstream + ((size_t)reader[r] * batch + b + i) * OUT;
                    EACH (int j = 0; j < PER_OUT; j++) sum[j] += load(from + j * LANES);
                }
                EACH (int j = 0; j < PER_OUT; j++) store(mine + i * OUT + j * LANES, sum[j]);
                held[n_held + i] = rows + (at + i) * IN;
            }
            if (n == TILE) add_product(TILE, mine, weight, d_rows + at * IN);
            else add_product(1, mine, weight, d_rows + at * IN);
            n_held += n;
            b += n;
            const int kernel_ends = b == batch && (t + 1 == n_terms || kernel[t + 1] != kernel[t]);
            if (kernel_ends || n_held + TILE > HELD) {
                add_outer(n_held, held, g, d_weights + (size_t)kernel[t] * IN * OUT);
                n_held = 0;
            }
        }
    }
}

/* y[b][voxel] = bias + sum over the voxel's taps of rows[cell][b][:] . weights[combination][:]; a cell of -1 is outside. */
void m2m_last(const float *rows, const float *weights, const float *bias, const int32_t *cell,
              const int32_t *combination, int n_voxels, int n_taps, int batch, float *y) {
    for (int v = 0; v < n_voxels; v++) {
        for (int b = 0; b < batch;) {
            const int n = batch - b < TILE ? 1 : TILE;
            vec sum[TILE];
            EACH (int i = 0; i < TILE; i++) sum[i] = (vec){0};
            for (int t = v * n_taps; t < (v + 1) * n_taps; t++) {
                if (cell[t] < 0) continue;
                const float *from = rows + ((size_t)cell[t] * batch + b) * OUT, *w = weights + combination[t] * OUT;
                if (n == TILE) {
                    EACH (int i = 0; i < TILE; i++)
                        EACH (int j = 0; j < PER_OUT; j++) sum[i] += load(from + i * OUT + j * LANES) * load(w + j * LANES);
                } else {
                    EACH (int j = 0; j < PER_OUT; j++) sum[0] += load(from + j * LANES) * load(w + j * LANES);
                }
            }
            for (int i = 0; i < n; i++) {
                float total = bias[0];
                EACH (int l = 0; l < LANES; l++) total += sum[i][l];
                y[(size_t)(b + i) * n_voxels + v] = total;
            }
            b += n;
        }
    }
}

/* The gradients of `m2m_last`, cell by cell: reads first[c] .. first[c + 1] are of cell c, by `voxel` with `combination`.
 * upstream (.., batch). d_rows is written, cut to where rows is positive, and summed to d_bias; d_weights is added to. */
void m2m_last_back(const float *rows, const float *weights, const int32_t *first, const int32_t *voxel,
                   const int32_t *combination, int n_cells, int batch, const float *upstream, float *d_rows,
                   float *d_weights, float *d_bias) {
    for (int c = 0; c < n_cells; c++) {
        for (int b = 0; b < batch;) {
            const int n = batch - b < TILE ? 1 : TILE;
            const size_t at = ((size_t)c * batch + b) * OUT;
            vec d[TILE][PER_OUT];
            EACH (int i = 0; i < TILE; i++) EACH (int j = 0; j < PER_OUT; j++) d[i][j] = (vec){0};
            for (int32_t r = first[c]; r < first[c + 1]; r++) {
                const float *g = upstream + (size_t)voxel[r] * batch + b, *weight = weights + combination[r] * OUT;
                float *to = d_weights + combination[r] * OUT;
                vec w[PER_OUT], sum[PER_OUT];
                EACH (int j = 0; j < PER_OUT; j++) w[j] = load(weight + j * LANES);
                EACH (int j = 0; j < PER_OUT; j++) sum[j] = load(to + j * LANES);
                if (n == TILE) {
                    EACH (int i = 0; i < TILE; i++) EACH (int j = 0; j < PER_OUT; j++) {
                        d[i][j] += g[i] * w[j];
                        sum[j] += g[i] * load(rows + at + i * OUT + j * LANES);
                    }
                } else {
                    EACH (int j = 0; j < PER_OUT; j++) {
                        d[0][j] += g[0] * w[j];
                        sum[j] += g[0] * load(rows + at + j * LANES);
                    }
                }
                EACH (int j = 0; j < PER_OUT; j++) store(to + j * LANES, sum[j]);
            }
            for (int i = 0; i < n; i++) {
                float *to = d_rows + at + i * OUT;
                const float *row = rows + at + i * OUT;
                EACH (int j = 0; j < PER_OUT; j++) store(to + j * LANES, d[i][j]);
                for (int k = 0; k < OUT; k++) to[k] = row[k] > 0.0f ? to[k] : 0.0f;
                for (int k = 0; k < OUT; k++) d_bias[k] += to[k];
            }
            b += n;
        }
    }
}
