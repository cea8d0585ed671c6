// Attention of new positions over cached ones.  The cache lies in blocks of BLOCK positions, anywhere; a
// table says which block holds which positions of a sequence.  Of each layer and key-value head a block
// holds the keys, [BLOCK / WIDTH][c][WIDTH], and the values, [w / WIDTH][BLOCK][WIDTH]: both are panels.

#define BLOCK 32

typedef struct {
    float *keys, *values;
    int n_layers, n_heads;      // layers, key-value heads U
    int key_width, value_width; // c and w, w rounded up to WIDTH
} Cache;

INLINE float *keys_of(const Cache *c, int block, int layer, int head) {
    return c->keys + (((long)block * c->n_layers + layer) * c->n_heads + head) * c->key_width * BLOCK;
}

INLINE float *values_of(const Cache *c, int block, int layer, int head) {
    return c->values + (((long)block * c->n_layers + layer) * c->n_heads + head) * c->value_width * BLOCK;
}

static void remember(const Cache *c, int block, int layer, int head, int place, const float *key, int d_key,
                     const float *rest, const float *value, int d_value) {
    float *keys = keys_of(c, block, layer, head) + place / WIDTH * WIDTH * c->key_width + place % WIDTH;
    for (int k = 0; k < d_key; k++) keys[(long)k * WIDTH] = key[k];
    for (int k = d_key; k < c->key_width; k++) keys[(long)k * WIDTH] = rest[k - d_key];
    float *values = values_of(c, block, layer, head) + place * WIDTH;
    for (int j = 0; j < d_value; j++) values[j / WIDTH * WIDTH * BLOCK + j % WIDTH] = value[j];
}

// p = softmax of the first n numbers, in place; zeros up to `end`
static void softmax(float *p, int n, int end) {
    vec most = all(-__builtin_inff());
    int i = 0;
    for (; i + LANES <= n; i += LANES) most = either(at(p + i) > most, at(p + i), most);
    float best = largest(most);
    for (; i < n; i++) best = p[i] > best ? p[i] : best;
    for (i = n; i < end; i++) p[i] = -__builtin_inff();
    vec total = all(0);
    for (i = 0; i < end; i += LANES) { // end is a multiple of LANES
        vec y = (at(p + i) - all(best)) * all(LOG2_E);
        y = either(y < all(-126), all(0), exp2_vec(y));
        put(p + i, y);
        total += y;
    }
    vec scale = all(1.0f / sum(total));
    for (i = 0; i < end; i += LANES) put(p + i, at(p + i) * scale);
}

INLINE void scores_of(const int rows, const float *q, int c, const float *panel, float *scores, long S) {
    vec acc[ROWS][8];
    UNROLL
    for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = all(0);
    tile(rows, 1, F32, q, c, panel, 0, c, acc);
    UNROLL
    for (int i = 0; i < rows; i++) put(scores + i * S, acc[i][0]), put(scores + i * S + LANES, acc[i][1]);
}

// `n` positions, no others: what a block held before may be no number
INLINE void values_by(const int rows, const Cache *c, const int *table, int n, int layer, int head,
                      int panel, const float *weights, long S, float *out) {
    vec acc[ROWS][8];
    UNROLL
    for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = all(0);
    for (int b = 0; b * BLOCK < n; b++)
        tile(rows, 1, F32, weights + b * BLOCK, S,
             values_of(c, table[b], layer, head) + (long)panel * BLOCK * WIDTH, 0,
             n - b * BLOCK < BLOCK ? n - b * BLOCK : BLOCK, acc);
    UNROLL
    for (int i = 0; i < rows; i++) {
        float *o = out + (long)i * c->value_width + panel * WIDTH;
        put(o, acc[i][0]), put(o + LANES, acc[i][1]);
    }
}

// out[rows][w] = softmax(q[rows][c] keys^T) values; row i reads the positions up to pos[i].  `scores` has
// room for rows times the positions of all blocks.
static void attend(const Cache *c, const int *table, int layer, int head, int rows, const float *q,
                   const int *pos, float *scores, float *out) {
    int last = 0;
    for (int i = 0; i < rows; i++) last = pos[i] > last ? pos[i] : last;
    int n_blocks = last / BLOCK + 1;
    long S = (long)n_blocks * BLOCK;
    for (int b = 0; b < n_blocks; b++)
        for (int j = 0; j < BLOCK / WIDTH && b * BLOCK + j * WIDTH <= last; j++) {
            const float *panel = keys_of(c, table[b], layer, head) + (long)j * WIDTH * c->key_width;
            for (int i = 0, n; i < rows; i += n) {
                n = height(rows - i, ROWS);
#define CASE(R) \
    if (R <= ROWS) \
    scores_of(R <= ROWS ? R : 1, q + (long)i * c->key_width, c->key_width, panel, \
              scores + i * S + b * BLOCK + j * WIDTH, S)
                FOR_ROWS(n, CASE)
#undef CASE
            }
        }
    int end = (last / LANES + 1) * LANES;
    for (int i = 0; i < rows; i++) softmax(scores + i * S, pos[i] + 1, end);
    for (int panel = 0; panel < c->value_width / WIDTH; panel++)
        for (int i = 0, n; i < rows; i += n) {
            n = height(rows - i, ROWS);
#define CASE(R) \
    if (R <= ROWS) \
    values_by(R <= ROWS ? R : 1, c, table, last + 1, layer, head, panel, scores + i * S, S, \
              out + (long)i * c->value_width)
            FOR_ROWS(n, CASE)
#undef CASE
        }
}
