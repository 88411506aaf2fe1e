/*
 * The baseline in C: a linked list with a cell per reference, a bitmap of what is free, and a rebuild of the whole list to
 * find references in a row. No locks, no checks. Prints one JSON object per line: workload, references, ns.
 * Build: gcc -O2 -o list list.c
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define END UINT32_MAX
#define RESERVED 8u
#define COUNT 16u
#define ROUNDS 25

static uint32_t size;
static uint32_t *next_of;
static uint64_t *bitmap;
static uint32_t head, free_count, last_free;
static uint32_t *anchor;

static int is_free(uint32_t ref) { return (int)(bitmap[ref >> 6] >> (ref & 63)) & 1; }
static void mark(uint32_t ref) { bitmap[ref >> 6] |= 1ull << (ref & 63); }
static void unmark(uint32_t ref) { bitmap[ref >> 6] &= ~(1ull << (ref & 63)); }

static void reset(void)
{
	memset(bitmap, 0, size / 8);
	for (uint32_t ref = RESERVED; ref < size; ref++) {
		next_of[ref] = ref + 1 < size ? ref + 1 : END;
		mark(ref);
	}
	head = RESERVED;
	free_count = size - RESERVED;
	last_free = size - 1;
	anchor = &head;
}

static uint32_t seq_available(void)
{
	if (last_free == END || !anchor || *anchor == END)
		return 0;
	return last_free - *anchor + 1;
}

static void put(uint32_t ref)
{
	if (ref < RESERVED)
		return;
	next_of[ref] = head;
	head = ref;
	if (!free_count)
		last_free = ref;
	if (anchor == &head)
		anchor = &next_of[ref];
	free_count++;
	mark(ref);
}

static void put_seq(uint32_t first, uint32_t count)
{
	for (uint32_t ref = first + count; ref > first; ref--)
		put(ref - 1);
}

static uint32_t take(uint32_t count)
{
	uint32_t first = head, ref = head;

	if (free_count < count)
		return END;
	for (uint32_t left = count;; left--) {
		unmark(ref);
		if (anchor == &next_of[ref])
			anchor = &head;
		if (left == 1)
			break;
		ref = next_of[ref];
	}
	head = next_of[ref];
	next_of[ref] = END;
	free_count -= count;
	if (!free_count) {
		last_free = END;
		anchor = NULL;
	}
	return first;
}

static uint32_t rebuild(uint32_t count)
{
	uint32_t found = END, *cell = &head, ref = 0;

	anchor = &head;
	while (ref < size) {
		uint32_t from, to;

		if (!bitmap[ref >> 6] && !(ref & 63)) {
			ref += 64;
			continue;
		}
		if (!is_free(ref)) {
			ref++;
			continue;
		}
		for (from = ref, to = ref + 1; to < size && is_free(to); to++)
			;
		ref = to;
		if (found == END && to - from >= count) {
			found = from;
			for (; from < found + count; from++)
				unmark(from);
			free_count -= count;
			if (from == to)
				continue;
		}
		for (; from < to; from++) {
			*cell = from;
			cell = &next_of[from];
		}
		last_free = to - 1;
		if (to < size)
			anchor = &next_of[to - 1];
	}
	*cell = END;
	if (last_free != size - 1)
		anchor = NULL;
	return found;
}

static uint32_t take_seq(uint32_t count)
{
	uint32_t first;

	if (free_count < count)
		return END;
	if (seq_available() < count)
		return rebuild(count);
	first = *anchor;
	*anchor = next_of[first + count - 1];
	free_count -= count;
	if (!free_count)
		anchor = NULL;
	for (uint32_t ref = first; ref < first + count; ref++)
		unmark(ref);
	return first;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static volatile uint32_t sink;

static double singles(uint32_t turns)
{
	double start = now();
	for (uint32_t i = 0; i < turns; i++) {
		uint32_t ref = take(1);
		sink = ref;
		put(ref);
	}
	return (now() - start) / turns;
}

/* The run at the end is given back by an untimed rebuild before it is used up. */
static double tail(uint32_t turns)
{
	double spent = 0;
	for (uint32_t done = 0; done < turns;) {
		uint32_t batch = seq_available() / COUNT;
		double start;
		if (!batch) {
			put_seq(rebuild(COUNT), COUNT);
			continue;
		}
		if (batch > turns - done)
			batch = turns - done;
		start = now();
		for (uint32_t i = 0; i < batch; i++) {
			uint32_t first = take_seq(COUNT);
			sink = first;
			put_seq(first, COUNT);
		}
		spent += now() - start;
		done += batch;
	}
	return spent / turns;
}

static double rebuilding(uint32_t turns)
{
	double start = now();
	for (uint32_t i = 0; i < turns; i++) {
		uint32_t first = take_seq(COUNT);
		sink = first;
		put_seq(first, COUNT);
	}
	return (now() - start) / turns;
}

/* Everything out, then a pattern freed; the only place for COUNT is in the middle of the last eighth. */
static void fragment(int runs)
{
	uint32_t place = size - size / 16;
	take(free_count);
	for (uint32_t ref = RESERVED, run = 1; ref < size - 1;) {
		if (ref >= place && ref < place + COUNT + 2) {
			for (uint32_t i = 1; i <= COUNT; i++)
				put(place + i);
			ref = place + COUNT + 2;
			continue;
		}
		if (!runs) {
			put(ref);
			ref += 2;
			continue;
		}
		for (uint32_t i = 0; i < run && ref < size - 1 && (ref < place || ref >= place + COUNT + 2); i++)
			put(ref++);
		ref++;
		run = run % 15 + 1;
		if (ref > place && ref < place + COUNT + 2)
			ref = place;
	}
}

static void measure(const char *name, double (*run)(uint32_t), uint32_t turns)
{
	double least = run(turns);
	for (int i = 0; i < ROUNDS; i++) {
		double ns = run(turns);
		if (ns < least)
			least = ns;
	}
	printf("{\"workload\":\"%s\",\"references\":%u,\"ns\":%.3f}\n", name, size, least);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		uint32_t slow;
		size = (uint32_t)strtoul(argv[i], NULL, 10);
		next_of = malloc(size * sizeof(*next_of));
		bitmap = malloc(size / 8);
		slow = (1u << 20) / size + 1;
		reset();
		measure("alloc 1 + free 1", singles, 1u << 18);
		reset();
		measure("allocSeq 16 + freeSeq, tail", tail, 1u << 14);
		reset();
		fragment(0);
		measure("allocSeq 16 + freeSeq, every other free", rebuilding, slow);
		reset();
		fragment(1);
		measure("allocSeq 16 + freeSeq, runs of 1 to 15", rebuilding, slow);
		free(next_of);
		free(bitmap);
	}
	return 0;
}
