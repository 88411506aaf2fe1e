/*
 * The array design: slots sorted from highest frame to lowest in one array, an id-to-index map, and the index of the
 * slot used last. `copied_` figures publish as that design had to, by copying the whole set for every publication.
 */
#include "workload.h"

/* As large as the original's on x86-64. */
struct slot {
	uint64_t base, pages;
	void *dirty;
	void *arch[6];
	uint64_t hva;
	uint32_t flags;
	int16_t id;
	uint16_t as;
};

struct set {
	uint64_t generation;
	int used, last;
	int16_t index[32768];
	struct slot slot[];
};

static uint64_t capacity;
static size_t set_bytes;
static struct set *set;

static inline struct slot *find(struct set *s, uint64_t gfn)
{
	int low = 0, high = s->used, last = s->last;
	if (!high)
		return NULL;
	if (last < high && gfn >= s->slot[last].base && gfn < s->slot[last].base + s->slot[last].pages)
		return &s->slot[last];
	while (low < high) {
		int middle = low + (high - low) / 2;
		if (gfn >= s->slot[middle].base)
			high = middle;
		else
			low = middle + 1;
	}
	if (low < s->used && gfn < s->slot[low].base + s->slot[low].pages) {
		s->last = low;
		return &s->slot[low];
	}
	return NULL;
}

static __attribute__((noinline)) uint64_t to_hva(uint64_t gfn)
{
	struct slot *slot = find(set, gfn);
	return slot && !(slot->flags & 2) ? slot->hva + (gfn - slot->base) * 4096 : BAD;
}

/* The original asks every slot. */
static int overlaps(uint64_t base, uint64_t pages, int except)
{
	for (int i = 0; i < set->used; i++)
		if (set->slot[i].id != except && base < set->slot[i].base + set->slot[i].pages && set->slot[i].base < base + pages)
			return 1;
	return 0;
}

/* Sorted: the place is found by halves, and the neighbours decide. */
static int place(uint64_t base)
{
	int low = 0, high = set->used;
	while (low < high) {
		int middle = low + (high - low) / 2;
		if (base >= set->slot[middle].base)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static int meets(int at, uint64_t base, uint64_t pages, int except)
{
	/* at: first slot that begins at or below base; those above end the other way round */
	for (int i = at; i < set->used; i++) {
		if (set->slot[i].id == except)
			continue;
		if (set->slot[i].base + set->slot[i].pages > base)
			return 1;
		break;
	}
	for (int i = at - 1; i >= 0; i--) {
		if (set->slot[i].id == except)
			continue;
		if (set->slot[i].base < base + pages)
			return 1;
		break;
	}
	return 0;
}

static void shift(int from, int to)
{
	struct slot moved = set->slot[from];
	while (from < to) {
		set->slot[from] = set->slot[from + 1];
		set->index[set->slot[from].id] = from;
		from++;
	}
	while (from > to) {
		set->slot[from] = set->slot[from - 1];
		set->index[set->slot[from].id] = from;
		from--;
	}
	set->slot[to] = moved;
	set->index[moved.id] = to;
}

static void publish(int copied)
{
	if (copied) {
		struct set *fresh = malloc(set_bytes);
		memcpy(fresh, set, set_bytes);
		free(set);
		set = fresh;
	}
	set->generation += 2;
}

static __attribute__((noinline)) int change(uint64_t id, uint32_t flags, uint64_t gpa, uint64_t size, uint64_t hva, int copied)
{
	uint64_t base = gpa / 4096, pages = size / 4096;
	if (!region_ok(id, capacity, flags, gpa, size, hva))
		return -22;
	int at = set->index[id];
	if (!pages) {
		if (at < 0)
			return -22;
		publish(copied);
		shift(at, set->used - 1);
		set->index[id] = -1;
		set->used--;
		if (set->last >= set->used)
			set->last = 0;
		publish(copied);
		return 0;
	}
	if (at < 0) {
		int to = place(base);
		if (copied ? overlaps(base, pages, -1) : meets(to, base, pages, -1))
			return -17;
		struct slot *slot = &set->slot[set->used++];
		memset(slot, 0, sizeof(*slot));
		slot->base = base;
		slot->pages = pages;
		slot->hva = hva;
		slot->flags = flags;
		slot->id = id;
		shift(set->used - 1, to);
		publish(copied);
		return 0;
	}
	struct slot *slot = &set->slot[at];
	if (slot->hva != hva || slot->pages != pages || ((slot->flags ^ flags) & 2))
		return -22;
	if (slot->base == base)
		return 0;
	int to = place(base);
	if (copied ? overlaps(base, pages, id) : meets(to, base, pages, id))
		return -17;
	publish(copied);
	slot = &set->slot[at];
	slot->base = base;
	slot->flags = flags;
	shift(at, to > at ? to - 1 : to);
	publish(copied);
	return 0;
}

int main(int argc, char **argv)
{
	struct workload w = read_workload(argv[argc - 1]);
	capacity = w.slots;
	set_bytes = sizeof(struct set) + capacity * sizeof(struct slot);
	set = calloc(1, set_bytes);
	memset(set->index, 0xff, sizeof(set->index));
	for (uint64_t i = 0; i < w.slots; i++)
		if (change(w.region[i].id, 0, w.region[i].base * 4096, w.region[i].pages * 4096, w.region[i].hva, 0))
			return 1;
	printf("{");
	MEASURE("hit", w.queries, sink += to_hva(w.hit[i]));
	MEASURE("spread", w.queries, sink += to_hva(w.spread[i]));
	MEASURE("same", w.queries, sink += to_hva(w.same[i]));
	MEASURE("miss", w.queries, sink += to_hva(w.miss[i]));
	/* A change moves half the array: at many slots a part of the list is enough to wait for. */
	uint64_t part = w.slots > 1000 ? 16 : 1;
	for (int copied = 0; copied < 2; copied++) {
		uint64_t changes = w.changes / (copied ? 32 : part), moves = w.moves / (copied ? 32 : part);
		MEASURE(copied ? "copied_change" : "change", changes, {
			struct region *r = &w.region[w.change[i]];
			if (change(r->id, 0, 0, 0, 0, copied) || change(r->id, 0, r->base * 4096, r->pages * 4096, r->hva, copied))
				return 1;
		});
		MEASURE(copied ? "copied_move" : "move", moves * 2, {
			struct region *r = &w.region[w.move_id[i / 2]];
			if (change(r->id, 0, (i & 1 ? r->base : w.move_to[i / 2]) * 4096, r->pages * 4096, r->hva, copied))
				return 1;
		});
	}
	printf("\"bytes\":%.1f,\"sink\":%llu}\n", (double)set_bytes / w.slots, (unsigned long long)(sink & 1));
	return 0;
}
