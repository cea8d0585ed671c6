// One step of many sequences through a model: what runner.py computes with torch, for a processor.
//
// The equations are those of nomoat/model (V3 report, arXiv 2412.19437, section 2; arXiv 2305.13245), cited
// by their numbers.  Arithmetic is float32 whatever the weights are stored in, but for products by tiles.
// Threads share a step in one of two ways: each takes some of the tokens through the whole model (many
// tokens), or some of the columns of every product (few tokens: then reading the weights is what takes the
// time).
#include "vector.h"
#include "product.h"
#include "attention.h"

#include <sched.h>
#include <stdatomic.h>

enum { NO_NORM, HEAD_NORM, WHOLE_NORM };

typedef struct {
    const float *norm_attention, *norm_ffn, *norm_q, *norm_kv; // gains
    Matrix in, up_q, out;                                      // W^DQ W^DKV W^KR, or q k v; W^UQ; W^O
    const Matrix *up_k, *up_v; // of each head: W^UK (N -> C) and W^UV (C -> W); latent alone
    Matrix gate_up, down;      // dense, or the shared experts
    const Matrix *expert_gate_up, *expert_down; // of each routed expert, or null
    Matrix router;
    const float *router_bias;
    int rotated;
} Layer;

typedef struct {
    const float *norm_embed, *norm_hidden, *norm;
    Matrix join;
} Depth;

typedef struct {
    int d_model, n_layers, vocab_size, embed_kind;
    int latent, n_heads, n_kv_heads, d_nope, d_rope, d_value, d_kv_latent, d_q_latent, qk_norm, norm_after;
    int n_routed, n_active, n_groups, n_active_groups, top2, softmax, normalise, d_shared, d_expert,
        d_dense;
    float scale, eps, latent_eps, routed_scale;
    const void *embed;
    const float *norm, *cos_sin; // cos_sin: [position][R / 2][2]
    const Layer *layers;         // those of the extra depths behind the others
    const Depth *depths;
    Matrix head;
    Cache cache;
} Model;

typedef struct {
    atomic_int count, phase;
} Barrier;

typedef struct {
    int M, n_out, max_blocks, depth, by_columns, joined, n_threads;
    const int *ids, *pos, *sequence, *tables; // of each token; tables: [sequence][max_blocks]
    const int *out;                           // the tokens behind which logits are asked for, ascending
    const float *temperature, *uniform;       // of each of them; uniform < 0: the most probable token
    float *logits, *hidden;                   // [n_out][V]; [M][D], read by depths > 0
    int *chosen;
    float *logp;
    Barrier barrier;
} Batch;

typedef struct { // what one thread does: tokens first … end, the part-th of `parts` shares of columns
    const Model *m;
    Batch *b;
    int first, n, part, parts;
    float *own, *shared;
} Thread;

static void wait_for_all(Thread *t) {
    Barrier *b = &t->b->barrier;
    int phase = atomic_load(&b->phase);
    if (atomic_fetch_add(&b->count, 1) == t->b->n_threads - 1) {
        atomic_store(&b->count, 0);
        atomic_store(&b->phase, phase + 1);
        return;
    }
    for (int spins = 0; atomic_load(&b->phase) == phase; spins++)
        if (spins > 2000) sched_yield();
}

static void meet(Thread *t) {
    if (t->parts > 1) wait_for_all(t);
}

static float *take(float **from, long n) {
    float *p = *from;
    *from += (n + 15) / 16 * 16;
    return p;
}

INLINE int share(const Thread *t, int n, int part) { return (int)((long)n * part / t->parts); }

// out = x W^T for this thread's tokens; complete once the threads have met
static void multiply(Thread *t, const Matrix *w, const float *x, long x_stride, float *out,
                     long out_stride) {
    int n = n_panels(w);
    product(w, x, x_stride, out, out_stride, t->n, share(t, n, t->part), share(t, n, t->part + 1));
    meet(t);
}

// What this thread may change: a copy, if others read the same numbers
static float *copy_of(Thread *t, float *x, long n, float **own) {
    if (t->parts == 1) return x;
    float *mine = take(own, n);
    memcpy(mine, x, n * sizeof(float));
    return mine;
}

static void rotate(float *x, const float *cos_sin, int R) {
    for (int r = 0; r < R; r += 2) {
        float c = cos_sin[r], s = cos_sin[r + 1], a = x[r], b = x[r + 1];
        x[r] = a * c - b * s, x[r + 1] = a * s + b * c;
    }
}

static void head_norms(const Model *m, const float *gain, float *x, int n_heads, int d) {
    if (m->qk_norm == WHOLE_NORM) rms_norm(x, gain, m->eps, n_heads * d, x);
    else
        for (int h = 0; h < n_heads; h++) rms_norm(x + h * d, gain, m->eps, d, x + h * d);
}

// The heads first … end of the tokens read the cache together; those that share a key-value head as one
// product.
static void read_cache(Thread *t, int layer, const float *q, int d_q, int first, int end, float *o, int d_o,
                       float *free) {
    const Model *m = t->m;
    const Cache *c = &m->cache;
    int group = m->n_heads / c->n_heads;
    for (int h = first; h < end;) {
        int u = h / group, stop = (u + 1) * group < end ? (u + 1) * group : end, n_heads = stop - h;
        for (int i = 0; i < t->n;) {
            const int *sequence = t->b->sequence + t->first, *pos = t->b->pos + t->first;
            int n = 1; // tokens of one sequence that follow each other
            while (i + n < t->n && sequence[i + n] == sequence[i] && (n + 1) * n_heads <= ROWS) n++;
            int rows = n * n_heads, row_pos[rows];
            float *scores = free, *gathered = 0, *found = 0;
            gathered = take(&scores, (long)rows * c->key_width),
            found = take(&scores, (long)rows * c->value_width);
            for (int j = 0; j < n; j++)
                for (int k = 0; k < n_heads; k++) {
                    int row = j * n_heads + k;
                    row_pos[row] = pos[i + j];
                    for (int w = 0; w < d_q; w++)
                        gathered[(long)row * d_q + w] =
                            q[((long)(i + j) * m->n_heads + h + k) * d_q + w] * m->scale;
                }
            attend(c, t->b->tables + (long)sequence[i] * t->b->max_blocks, layer, u, rows, gathered,
                   row_pos, scores, found);
            for (int j = 0; j < n; j++)
                for (int k = 0; k < n_heads; k++)
                    memcpy(o + ((long)(i + j) * m->n_heads + h + k) * d_o,
                           found + (long)(j * n_heads + k) * c->value_width, d_o * sizeof(float));
            i += n;
        }
        h = stop;
    }
}

static void all_remembered(Thread *t) {
    if (t->parts > 1 || t->b->joined) wait_for_all(t);
}

// u = latent attention (1) to (11), W^UK in the query and W^UV in the output
static void latent_attention(Thread *t, const Layer *l, int layer, const float *x, float *u, float *own,
                             float *shared) {
    const Model *m = t->m;
    int H = m->n_heads, N = m->d_nope, R = m->d_rope, C = m->d_kv_latent, P = m->d_q_latent, W = m->d_value;
    int d_query = N + R, d_first = P ? P : H * d_query, d_in = d_first + C + R, M = t->n;
    float *in = take(&shared, (long)M * d_in), *q = take(&shared, (long)M * H * d_query);
    float *o = take(&shared, (long)M * H * W);
    float *lat = take(&own, (long)M * H * (C + R)), *o_lat = take(&own, (long)M * H * C);
    multiply(t, &l->in, x, m->d_model, in, d_in); // (1) (3) (6)
    in = copy_of(t, in, (long)M * d_in, &own);
    for (int i = 0; i < M; i++) {
        float *row = in + (long)i * d_in, *c_kv = row + d_first, *k_rope = c_kv + C;
        int token = t->first + i, pos = t->b->pos[token];
        rms_norm(c_kv, l->norm_kv, m->latent_eps, C, c_kv);
        rotate(k_rope, m->cos_sin + (long)pos * R, R); // (3)
        if (token % t->parts == t->part) {
            int block = t->b->tables[(long)t->b->sequence[token] * t->b->max_blocks + pos / BLOCK];
            remember(&m->cache, block, layer, 0, pos % BLOCK, c_kv, C, k_rope, c_kv, C);
        }
        if (P) rms_norm(row, l->norm_q, m->latent_eps, P, row);
    }
    if (P) multiply(t, &l->up_q, in, d_in, q, (long)H * d_query); // (7) (8)
    else q = in;
    long stride = P ? (long)H * d_query : d_in;
    all_remembered(t);
    int first = share(t, H, t->part), end = share(t, H, t->part + 1);
    for (int h = first; h < end; h++) {
        product(&l->up_k[h], q + h * d_query, stride, lat + h * (C + R), (long)H * (C + R), M, 0,
                n_panels(&l->up_k[h]));
        for (int i = 0; i < M; i++) {
            float *rope = lat + ((long)i * H + h) * (C + R) + C;
            memcpy(rope, q + i * stride + h * d_query + N, R * sizeof(float));
            rotate(rope, m->cos_sin + (long)t->b->pos[t->first + i] * R, R); // (8)
        }
    }
    read_cache(t, layer, lat, C + R, first, end, o_lat, C, own); // (9) (10)
    for (int h = first; h < end; h++)
        product(&l->up_v[h], o_lat + h * C, (long)H * C, o + h * W, (long)H * W, M, 0,
                n_panels(&l->up_v[h]));
    meet(t);
    multiply(t, &l->out, o, (long)H * W, u, m->d_model); // (11)
}

// u = grouped-query attention (arXiv 2305.13245)
static void grouped_attention(Thread *t, const Layer *l, int layer, const float *x, float *u, float *own,
                              float *shared) {
    const Model *m = t->m;
    int H = m->n_heads, U = m->n_kv_heads, R = m->d_rope, W = m->d_value, M = t->n;
    int d_in = H * R + U * R + U * W;
    float *wide = take(&shared, (long)M * d_in), *o = take(&shared, (long)M * H * W);
    float *q = take(&own, (long)M * H * R), *k = take(&own, (long)U * R);
    multiply(t, &l->in, x, m->d_model, wide, d_in);
    for (int i = 0; i < M; i++) {
        int token = t->first + i, pos = t->b->pos[token];
        const float *row = wide + (long)i * d_in, *v = row + H * R + U * R;
        float *queries = q + (long)i * H * R;
        memcpy(queries, row, H * R * sizeof(float)), memcpy(k, row + H * R, U * R * sizeof(float));
        if (m->qk_norm) head_norms(m, l->norm_q, queries, H, R), head_norms(m, l->norm_kv, k, U, R);
        const float *cos_sin = m->cos_sin + (long)pos * R;
        for (int h = 0; h < H && l->rotated; h++) rotate(queries + h * R, cos_sin, R);
        if (token % t->parts != t->part) continue;
        int block = t->b->tables[(long)t->b->sequence[token] * t->b->max_blocks + pos / BLOCK];
        for (int j = 0; j < U; j++) {
            if (l->rotated) rotate(k + j * R, cos_sin, R);
            remember(&m->cache, block, layer, j, pos % BLOCK, k + j * R, R, 0, v + j * W, W);
        }
    }
    all_remembered(t);
    int group = H / U, first = share(t, U, t->part) * group, end = share(t, U, t->part + 1) * group;
    read_cache(t, layer, q, R, first, end, o, W, own);
    meet(t);
    multiply(t, &l->out, o, (long)H * W, u, m->d_model);
}

static void swiglu(Thread *t, const Matrix *gate_up, const Matrix *down, const float *x, float *out,
                   float *own, float *shared) {
    int D = t->m->d_model, F = down->d_in;
    float *wide = take(&shared, (long)t->n * 2 * F), *hidden = take(&own, (long)t->n * F);
    multiply(t, gate_up, x, D, wide, 2 * F);
    for (int i = 0; i < t->n; i++) {
        const float *gate = wide + (long)i * 2 * F, *up = gate + F;
        for (int k = 0; k < F; k += LANES) {
            int n = F - k < LANES ? F - k : LANES;
            vec y = n == LANES ? gated(at(gate + k), at(up + k))
                               : gated(some(gate + k, n, 0), some(up + k, n, 0));
            float *to = hidden + (long)i * F + k;
            if (n == LANES) put(to, y);
            else
                for (int j = 0; j < n; j++) to[j] = y[j];
        }
    }
    multiply(t, down, hidden, F, out, D);
}

// The experts of one token, ascending, and their gates: (13) to (16)
static void route(const Model *m, const float *bias, float *score, int *expert, float *gate) {
    int E = m->n_routed, K = m->n_active, G = m->n_groups, per_group = E / G;
    float choice[E];
    if (m->softmax) {
        float best = score[0], total = 0;
        for (int e = 1; e < E; e++) best = score[e] > best ? score[e] : best;
        for (int e = 0; e < E; e++) total += score[e] = __builtin_expf(score[e] - best);
        for (int e = 0; e < E; e++) score[e] /= total;
    } else
        for (int e = 0; e < E; e++) score[e] = 1.0f / (1.0f + __builtin_expf(-score[e])); // (15)
    for (int e = 0; e < E; e++) choice[e] = score[e] + bias[e];
    if (G > 1) {
        float of_group[G];
        for (int g = 0; g < G; g++) {
            float first = -__builtin_inff(), second = first;
            for (int e = g * per_group; e < (g + 1) * per_group; e++) {
                if (choice[e] > first) second = first, first = choice[e];
                else if (choice[e] > second) second = choice[e];
            }
            of_group[g] = m->top2 ? first + second : first;
        }
        for (int g = 0; g < G; g++) {
            int better = 0;
            for (int other = 0; other < G; other++)
                better += of_group[other] > of_group[g] || (of_group[other] == of_group[g] && other < g);
            for (int e = g * per_group; e < (g + 1) * per_group && better >= m->n_active_groups; e++)
                choice[e] = -__builtin_inff();
        }
    }
    char chosen[E];
    memset(chosen, 0, E);
    for (int k = 0; k < K; k++) { // (16): the K largest, of equals the first
        int best = -1;
        for (int e = 0; e < E; e++)
            if (!chosen[e] && (best < 0 || choice[e] > choice[best])) best = e;
        chosen[best] = 1;
    }
    float total = 0;
    for (int e = 0, k = 0; e < E; e++)
        if (chosen[e]) expert[k] = e, gate[k++] = score[e]; // (14)
    for (int k = 0; k < K; k++) total += gate[k];
    for (int k = 0; k < K; k++) gate[k] *= m->routed_scale / (m->normalise ? total + 1e-20f : 1.0f); // (13)
}

// out = the shared experts + the chosen ones (12)
static void experts(Thread *t, const Layer *l, const float *x, float *out, float *own, float *shared) {
    const Model *m = t->m;
    int D = m->d_model, E = m->n_routed, K = m->n_active, F = m->d_expert, M = t->n;
    float *copies = take(&shared, (long)M * K * D), *score = take(&own, (long)M * E),
          *gate = take(&own, (long)M * K);
    int *expert = (int *)take(&own, (long)M * K), *order = (int *)take(&own, (long)M * K), first[E + 1];
    float *gathered = take(&own, (long)M * D), *wide = take(&own, (long)M * 2 * F),
          *hidden = take(&own, (long)M * F);
    float *found = take(&own, (long)M * D);
    product(&l->router, x, D, score, E, M, 0, n_panels(&l->router));
    for (int i = 0; i < M; i++) route(m, l->router_bias, score + (long)i * E, expert + i * K, gate + i * K);
    memset(first, 0, sizeof(first));
    for (int z = 0; z < M * K; z++) first[expert[z] + 1]++;
    for (int e = 0; e < E; e++) first[e + 1] += first[e];
    for (int z = 0; z < M * K; z++) order[first[expert[z]]++] = z; // now first[e] is where e + 1 begins
    for (int e = t->part; e < E; e += t->parts) {
        const int *slot = order + (e ? first[e - 1] : 0);
        int n = (int)(order + first[e] - slot);
        if (!n) continue;
        for (int i = 0; i < n; i++)
            memcpy(gathered + (long)i * D, x + (long)(slot[i] / K) * D, D * sizeof(float));
        product(&l->expert_gate_up[e], gathered, D, wide, 2 * F, n, 0, n_panels(&l->expert_gate_up[e]));
        for (int i = 0; i < n; i++)
            for (int k = 0; k < F; k += LANES) {
                const float *g = wide + (long)i * 2 * F + k;
                int rest = F - k < LANES ? F - k : LANES;
                vec y = gated(some(g, rest, 0), some(g + F, rest, 0)) * all(gate[slot[i]]);
                for (int j = 0; j < rest; j++) hidden[(long)i * F + k + j] = y[j];
            }
        product(&l->expert_down[e], hidden, F, found, D, n, 0, n_panels(&l->expert_down[e]));
        for (int i = 0; i < n; i++)
            memcpy(copies + (long)slot[i] * D, found + (long)i * D, D * sizeof(float));
    }
    if (m->d_shared) swiglu(t, &l->gate_up, &l->down, x, out, own, shared);
    else meet(t);
    float *sums = gathered;
    for (int i = 0; i < M; i++) {
        if (m->d_shared) memcpy(sums + (long)i * D, out + (long)i * D, D * sizeof(float));
        else memset(sums + (long)i * D, 0, D * sizeof(float));
        for (int k = 0; k < K; k++) add(sums + (long)i * D, copies + ((long)i * K + k) * D, D);
    }
    meet(t);
    if (t->part == 0) memcpy(out, sums, (long)M * D * sizeof(float));
    meet(t);
}

static void entering(const Model *m, const float *gain, const float *h, float *x, int n) {
    if (m->norm_after) memcpy(x, h, (long)n * m->d_model * sizeof(float));
    else
        for (long i = 0; i < n; i++)
            rms_norm(h + i * m->d_model, gain, m->eps, m->d_model, x + i * m->d_model);
}

static void leaving(const Model *m, const float *gain, float *u, float *h, int n) {
    int D = m->d_model;
    float normed[D];
    for (long i = 0; i < n; i++) {
        const float *row = u + i * D;
        if (m->norm_after) rms_norm(row, gain, m->eps, D, normed), row = normed;
        add(h + i * D, row, D);
    }
}

static void embed(const Model *m, int id, float *h) {
    for (long j = 0, at0 = (long)id * m->d_model; j < m->d_model; j++) {
        union {
            uint32_t bits;
            float value;
        } wide;
        if (m->embed_kind == F32) wide.value = ((const float *)m->embed)[at0 + j];
        else wide.bits = (uint32_t)((const uint16_t *)m->embed)[at0 + j] << 16;
        h[j] = wide.value;
    }
}

// The residual stream before the first layer: the embedding, or what an extra depth joins (21)
static void enter(Thread *t, float *h, float *x, float *shared) {
    const Model *m = t->m;
    int D = m->d_model;
    for (int i = 0; i < t->n; i++) embed(m, t->b->ids[t->first + i], h + (long)i * D);
    if (!t->b->depth) return;
    const Depth *d = m->depths + t->b->depth - 1;
    float *joined = x; // 2 D wide
    for (long i = 0; i < t->n; i++) {
        rms_norm(h + i * D, d->norm_embed, m->eps, D, joined + i * 2 * D);
        rms_norm(t->b->hidden + (t->first + i) * D, d->norm_hidden, m->eps, D, joined + i * 2 * D + D);
    }
    float *out = take(&shared, (long)t->n * D);
    multiply(t, &d->join, joined, 2 * D, out, D);
    memcpy(h, out, (long)t->n * D * sizeof(float));
    meet(t);
}

// One id by inverse CDF, and its log-probability under softmax(logits / temperature); see sampling.py
static void choose(const float *logits, int V, float temperature, float uniform, int *id, float *logp) {
    int most = argmax(logits, V);
    float best = logits[most], scale = LOG2_E / temperature;
    double total = 0;
    int n_parts = (V + 63) / 64;
    float parts[n_parts];
    for (int p = 0; p < n_parts; p++) {
        vec s = all(0);
        for (int i = p * 64; i < p * 64 + 64 && i < V; i += LANES) {
            int n = V - i < LANES ? V - i : LANES;
            vec y = ((n == LANES ? at(logits + i) : some(logits + i, n, -__builtin_inff())) - all(best)) *
                    all(scale);
            s += either(y < all(-126), all(0), exp2_vec(y));
        }
        total += parts[p] = sum(s);
    }
    *id = most;
    if (uniform >= 0) {
        double place = (double)uniform * total, before = 0;
        int p = 0, last = -1;
        for (; p < n_parts - 1 && before + parts[p] <= place; p++) before += parts[p];
        while (p > 0 && parts[p] == 0) p--; // rounding has gone beyond the last possible id
        for (int i = p * 64; i < p * 64 + 64 && i < V; i++) {
            float y = (logits[i] - best) * scale, power = y < -126 ? 0 : __builtin_exp2f(y);
            if (power == 0) continue;
            last = i, before += power;
            if (before > place) break;
        }
        *id = last >= 0 ? last : most;
    }
    *logp = (float)(((logits[*id] - best) * scale - __builtin_log2(total)) / LOG2_E);
}

static void leave(Thread *t, float *h, float *own) {
    const Model *m = t->m;
    Batch *b = t->b;
    int D = m->d_model, from = 0, n = 0;
    if (b->hidden && !b->depth && t->part == 0)
        memcpy(b->hidden + (long)t->first * D, h, (long)t->n * D * sizeof(float));
    while (from < b->n_out && b->out[from] < t->first) from++;
    while (from + n < b->n_out && b->out[from + n] < t->first + t->n) n++;
    float *x = take(&own, (long)n * D);
    const float *gain = b->depth ? m->depths[b->depth - 1].norm : m->norm;
    for (int i = 0; i < n; i++)
        rms_norm(h + (long)(b->out[from + i] - t->first) * D, gain, m->eps, D, x + (long)i * D);
    int panels = n_panels(&m->head), V = m->vocab_size;
    float *logits = b->logits + (long)from * V;
    product(&m->head, x, D, logits, V, n, share(t, panels, t->part), share(t, panels, t->part + 1));
    meet(t);
    for (int i = share(t, n, t->part); i < share(t, n, t->part + 1); i++)
        choose(logits + (long)i * V, V, b->temperature[from + i], b->uniform[from + i],
               b->chosen + from + i, b->logp + from + i);
}

// What thread number `number` of the batch's does of it; `own` is its memory, `shared` that of all of them.
void step(const Model *m, Batch *b, int number, float *own, float *shared) {
    Thread t = {m, b, 0, b->M, 0, 1, own, shared};
    if (b->by_columns) t.part = number, t.parts = b->n_threads;
    else {
        t.first = (int)((long)b->M * number / b->n_threads);
        t.n = (int)((long)b->M * (number + 1) / b->n_threads) - t.first;
    }
    int D = m->d_model;
    float *h = take(&own, (long)t.n * D), *x = take(&own, (long)t.n * 2 * D),
          *u = take(&shared, (long)t.n * D);
    enter(&t, h, x, shared);
    int first = b->depth ? m->n_layers + b->depth - 1 : 0, end = b->depth ? first + 1 : m->n_layers;
    for (int i = first; i < end; i++) {
        const Layer *l = m->layers + i;
        entering(m, l->norm_attention, h, x, t.n);
        (m->latent ? latent_attention : grouped_attention)(&t, l, i, x, u, own, shared);
        leaving(m, l->norm_attention, u, h, t.n);
        entering(m, l->norm_ffn, h, x, t.n);
        if (l->expert_gate_up) experts(&t, l, x, u, own, shared);
        else swiglu(&t, &l->gate_up, &l->down, x, u, own, shared);
        leaving(m, l->norm_ffn, u, h, t.n);
    }
    leave(&t, h, own);
}

// One product by itself
void multiplied(const Matrix *m, const float *x, long x_stride, float *out, long out_stride, int M) {
    product(m, x, x_stride, out, out_stride, M, 0, n_panels(m));
}

int width(void) { return WIDTH; }
int block(void) { return BLOCK; }
