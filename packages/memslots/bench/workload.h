/*
 * What the two baselines share: the workload that the bench wrote (slots and queries, little endian), a clock, and
 * medians of rounds. The baselines are our own programs in the shape of the two designs KVM has had; they do the same
 * checks as the package and answer with the host address.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BAD UINT64_MAX
#define ROUNDS 9
#define MAX_PAGES 0x7fffffffull
#define USER_LIMIT 0x7ffffffff000ull

struct region { uint64_t id, base, pages, hva; };

struct workload {
	uint64_t slots, queries, changes, moves;
	struct region *region;          /* by id */
	uint64_t *hit, *spread, *same, *miss;    /* frames */
	uint64_t *hva;                  /* host addresses, bytes */
	uint64_t *change;               /* ids that are deleted and created again */
	uint64_t *move_id, *move_to;    /* a slot of one page, and the hole it moves to and back from */
};

static uint64_t *take(FILE *file, uint64_t count)
{
	uint64_t *values = malloc((count + 1) * sizeof(*values));
	if (!values || fread(values, sizeof(*values), count, file) != count) {
		fprintf(stderr, "short workload\n");
		exit(1);
	}
	return values;
}

static struct workload read_workload(const char *path)
{
	struct workload w;
	FILE *file = fopen(path, "rb");
	if (!file) {
		perror(path);
		exit(1);
	}
	uint64_t *head = take(file, 4);
	w.slots = head[0];
	w.queries = head[1];
	w.changes = head[2];
	w.moves = head[3];
	w.region = (struct region *)take(file, w.slots * 4);
	w.hit = take(file, w.queries);
	w.spread = take(file, w.queries);
	w.same = take(file, w.queries);
	w.miss = take(file, w.queries);
	w.hva = take(file, w.queries);
	w.change = take(file, w.changes);
	w.move_id = take(file, w.moves);
	w.move_to = take(file, w.moves);
	fclose(file);
	return w;
}

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static uint64_t sink;

/* Runs `body` over `count` items in ROUNDS rounds after one to warm up, and prints the median of nanoseconds an item. */
#define MEASURE(name, count, body)                                             \
	do {                                                                   \
		double rounds[ROUNDS];                                         \
		for (int round = -1; round < ROUNDS; round++) {                \
			double start = now_ns();                               \
			for (uint64_t i = 0; i < (count); i++) {               \
				body;                                          \
			}                                                      \
			if (round >= 0)                                        \
				rounds[round] = (now_ns() - start) / (count);  \
		}                                                              \
		qsort(rounds, ROUNDS, sizeof(double), by_value);               \
		printf("\"%s\":%.2f,", name, rounds[ROUNDS / 2]);              \
	} while (0)

/* The checks of a region that need no slots. */
static int region_ok(uint64_t id, uint64_t slots, uint32_t flags, uint64_t gpa, uint64_t size, uint64_t hva)
{
	if (id >= slots || (flags & ~3u) || (size & 4095) || (gpa & 4095) || (hva & 4095))
		return 0;
	if (hva + size < hva || hva + size > USER_LIMIT || gpa + size < gpa)
		return 0;
	return size / 4096 <= MAX_PAGES;
}
#endif
