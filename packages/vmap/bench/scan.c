/*
 * The scanning algorithm, as a baseline: one bit per page, first fit from `low`, words of 64 bits.
 * Runs the workloads of workloads.mjs and prints one line for each: name, nanoseconds of processor time per operation, checksum.
 * Build: gcc -O2 -o scan scan.c
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t *map;
static uint32_t low, top, end;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int is_set(uint32_t bit) { return map[bit / 64] >> (bit % 64) & 1; }

/* The first bit at or after `from` whose value is not that of `flip`'s lowest bit; `top` if there is none. */
static uint32_t next_bit(uint32_t from, uint64_t flip)
{
    uint32_t word = from / 64, words = (top + 63) / 64;
    uint64_t bits;

    if (from >= top)
        return top;
    bits = (map[word] ^ flip) & (~0ULL << (from % 64));
    while (bits == 0) {
        if (++word >= words)
            return top;
        bits = map[word] ^ flip;
    }
    from = word * 64 + __builtin_ctzll(bits);
    return from < top ? from : top;
}

static uint32_t next_set(uint32_t from) { return next_bit(from, 0); }
static uint32_t next_clear(uint32_t from) { return next_bit(from, ~0ULL); }

static __attribute__((noinline)) uint32_t area_alloc(uint32_t nr, uint32_t align)
{
    uint32_t at = low, found = 0, bit;

    while (at < top) {
        uint32_t border = next_set(at + 1);
        uint32_t candidate = (at + align) & ~(align - 1);

        if (border < top ? candidate + nr < border : candidate + nr <= top) {
            found = candidate;
            break;
        }
        if (border >= top)
            break;
        at = next_clear(border + 1);
    }
    if (found == 0 || found >= top)
        return 0;
    for (bit = found; bit < found + nr; bit++)
        map[bit / 64] |= 1ULL << (bit % 64);
    if (found <= low + 2)
        low = found + nr;
    return found;
}

static __attribute__((noinline)) void area_free(uint32_t bit)
{
    if (bit == 0 || is_set(bit - 1) || !is_set(bit))
        abort();
    if (bit < low) {
        low = bit - 1;
        while (!is_set(low - 1))
            low--;
    }
    for (; bit < top && is_set(bit); bit++)
        map[bit / 64] &= ~(1ULL << (bit % 64));
}

static __attribute__((noinline)) uint32_t area_size(uint32_t bit) { return next_clear(bit + 1) - bit; }

static void begin(uint32_t pages)
{
    free(map);
    map = calloc(pages / 64 + 1, 8);
    end = pages;
    top = pages;
    low = (pages + 7) / 8 / 4096;
    if (low == 0)
        low = 1;
    for (uint32_t i = 0; i < low; i++)
        map[i / 64] |= 1ULL << (i % 64);
}

static uint32_t seed = 0x9e3779b9;
static uint32_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static uint32_t *areas, count;

/* Areas of 1 to `most` pages up to `limit`, while `top` grows as it is needed; then it is moved to the end. */
static void fill(uint32_t limit, uint32_t most)
{
    areas = realloc(areas, (size_t)limit * sizeof *areas);
    top = 32768;
    for (count = 0; low < limit;) {
        uint32_t bit = area_alloc(1 + chance() % most, 1);
        if (bit != 0)
            areas[count++] = bit;
        else if (top < end)
            top += 32768;
        else
            break;
    }
    top = end;
}

#define ROUNDS 7
#define MEASURE(name, each, body) do { \
    double times[ROUNDS]; uint64_t sum = 0; \
    for (int r = 0; r < ROUNDS; r++) { \
        double start = now(); \
        for (uint32_t n = 0; n < (each); n++) { body; } \
        times[r] = (now() - start) / (each); \
    } \
    qsort(times, ROUNDS, sizeof *times, by_value); \
    printf("%s %.2f %llu\n", name, times[ROUNDS / 2], (unsigned long long)sum); \
    fflush(stdout); \
} while (0)

struct outside { struct outside *next; uint64_t va; uint32_t pages; };

static __attribute__((noinline)) uint32_t find_outside(struct outside *list, uint64_t va)
{
    for (; list; list = list->next)
        if (list->va == va)
            return list->pages;
    return 0;
}

static void lookup(const char *name, uint32_t many, uint32_t each)
{
    struct outside *list = NULL, *entries = calloc(many, sizeof *entries), **order = calloc(many, sizeof *order);

    /* On the list in random order of memory, as entries of an allocator that has been in use are. */
    for (uint32_t i = 0; i < many; i++)
        order[i] = &entries[i];
    for (uint32_t i = many; i > 1; i--) {
        uint32_t j = chance() % i;
        struct outside *t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < many; i++) {
        *order[i] = (struct outside){ list, 0xffff82d080000000ULL + (uint64_t)i * 16384, 1 + i % 3 };
        list = order[i];
    }
    MEASURE(name, each, sum += find_outside(list, 0xffff82d080000000ULL + (uint64_t)(chance() % many) * 16384));
    free(entries);
    free(order);
}

int main(void)
{
    const uint32_t small = 32768, large = 16u << 20;
    uint32_t bit;

    begin(small);
    fill(small / 100 * 95, 1);
    MEASURE("lifo", 200000, bit = area_alloc(1, 1); sum += bit; area_free(bit));
    MEASURE("churn-32k", 2000, uint32_t i = chance() % count; area_free(areas[i]); areas[i] = area_alloc(1, 1); sum += areas[i]);

    begin(large);
    fill(large / 100 * 95, 1);
    MEASURE("churn-16m", 20, uint32_t i = chance() % count; area_free(areas[i]); areas[i] = area_alloc(1, 1); sum += areas[i]);

    begin(large);
    fill(large - 4096, 1);
    for (uint32_t i = 0; i < count; i += 2)
        area_free(areas[i]);
    MEASURE("checkerboard", 10, bit = area_alloc(64, 64); sum += bit; area_free(bit));

    begin(large);
    MEASURE("large", 20, bit = area_alloc(1u << 20, 1); sum += bit; area_free(bit));

    /* A request that cannot fit: areas of 1 to 32 pages, every second one freed. */
    begin(large);
    fill(large, 32);
    for (uint32_t i = 0; i < count; i += 2)
        area_free(areas[i]);
    MEASURE("cannot-fit", 20, sum += area_alloc(1u << 20, 1));

    begin(large);
    bit = area_alloc(1u << 20, 1);
    MEASURE("size", 2000, sum += area_size(bit); __asm__ volatile("" ::: "memory"));

    lookup("lookup-10", 10, 1000000);
    lookup("lookup-1000", 1000, 100000);
    lookup("lookup-32768", 32768, 500);
    return 0;
}
