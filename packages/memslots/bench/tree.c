/*
 * The tree design: a red-black tree by first frame and an interval tree by host address (the same tree with the
 * furthest end of every subtree), over nodes found by id. One set of nodes; the original keeps two.
 */
#include "workload.h"

struct node {
	struct node *parent, *left, *right;
	uint64_t key;
	uint64_t end;   /* exclusive */
	uint64_t most;  /* furthest end below and here */
	int red;
};

struct slot {
	struct node gfn;
	struct node hva;
	uint64_t base, pages, address;
	void *dirty;
	void *arch[6];
	uint32_t flags;
	int16_t id;
	uint16_t as;
	int used;
};

struct tree {
	struct node *root;
	int ranges; /* whether it keeps furthest ends */
};

static struct tree frames, hosts = { .ranges = 1 };
static struct slot *slots, *last;
static uint64_t capacity, generation;

#define SLOT(node, member) ((struct slot *)((char *)(node) - __builtin_offsetof(struct slot, member)))

static inline void refresh(struct node *n)
{
	uint64_t most = n->end;
	if (n->left && n->left->most > most)
		most = n->left->most;
	if (n->right && n->right->most > most)
		most = n->right->most;
	n->most = most;
}

static void replace_child(struct tree *t, struct node *old, struct node *fresh)
{
	struct node *p = old->parent;
	if (!p)
		t->root = fresh;
	else if (p->left == old)
		p->left = fresh;
	else
		p->right = fresh;
	if (fresh)
		fresh->parent = p;
}

static void rotate(struct tree *t, struct node *n, int left)
{
	struct node *up = left ? n->right : n->left;
	struct node *middle = left ? up->left : up->right;
	replace_child(t, n, up);
	if (left) {
		n->right = middle;
		up->left = n;
	} else {
		n->left = middle;
		up->right = n;
	}
	if (middle)
		middle->parent = n;
	n->parent = up;
	if (t->ranges) {
		refresh(n);
		refresh(up);
	}
}

static void insert(struct tree *t, struct node *n)
{
	struct node *p = NULL, **link = &t->root;
	while (*link) {
		p = *link;
		if (t->ranges && p->most < n->end)
			p->most = n->end;
		link = n->key < p->key ? &p->left : &p->right;
	}
	*link = n;
	n->parent = p;
	n->left = n->right = NULL;
	n->red = 1;
	n->most = n->end;
	while ((p = n->parent) && p->red) {
		struct node *g = p->parent;
		int left = p == g->left;
		struct node *uncle = left ? g->right : g->left;
		if (uncle && uncle->red) {
			p->red = uncle->red = 0;
			g->red = 1;
			n = g;
			continue;
		}
		if (n == (left ? p->right : p->left)) {
			rotate(t, p, left);
			n = p;
			p = n->parent;
		}
		p->red = 0;
		g->red = 1;
		rotate(t, g, !left);
	}
	t->root->red = 0;
}

static void erase(struct tree *t, struct node *n)
{
	struct node *child, *parent;
	int red;
	if (n->left && n->right) {
		struct node *next = n->right;
		while (next->left)
			next = next->left;
		red = next->red;
		child = next->right;
		parent = next->parent;
		if (parent == n) {
			parent = next;
		} else {
			parent->left = child;
			if (child)
				child->parent = parent;
			next->right = n->right;
			next->right->parent = next;
		}
		next->left = n->left;
		next->left->parent = next;
		next->red = n->red;
		replace_child(t, n, next);
	} else {
		child = n->left ? n->left : n->right;
		parent = n->parent;
		red = n->red;
		replace_child(t, n, child);
	}
	for (struct node *up = t->ranges ? parent : NULL; up; up = up->parent) {
		refresh(up);
	}
	if (red)
		return;
	while (parent && !(child && child->red)) {
		int left = parent->left == child;
		struct node *other = left ? parent->right : parent->left;
		if (other->red) {
			other->red = 0;
			parent->red = 1;
			rotate(t, parent, left);
			other = left ? parent->right : parent->left;
		}
		struct node *near = left ? other->left : other->right;
		struct node *far = left ? other->right : other->left;
		if (!(near && near->red) && !(far && far->red)) {
			other->red = 1;
			child = parent;
			parent = parent->parent;
			continue;
		}
		if (!(far && far->red)) {
			near->red = 0;
			other->red = 1;
			rotate(t, other, !left);
			other = near;
			far = left ? other->right : other->left;
		}
		other->red = parent->red;
		parent->red = 0;
		far->red = 0;
		rotate(t, parent, left);
		break;
	}
	if (child)
		child->red = 0;
}

static inline struct slot *find(uint64_t gfn)
{
	struct slot *slot = last;
	if (slot && slot->used && gfn >= slot->base && gfn < slot->base + slot->pages)
		return slot;
	struct node *n = frames.root;
	while (n) {
		if (gfn >= n->key) {
			if (gfn < n->end) {
				last = SLOT(n, gfn);
				return last;
			}
			n = n->right;
		} else {
			n = n->left;
		}
	}
	return NULL;
}

static __attribute__((noinline)) uint64_t to_hva(uint64_t gfn)
{
	struct slot *slot = find(gfn);
	return slot && !(slot->flags & 2) ? slot->address + (gfn - slot->base) * 4096 : BAD;
}

/* The lowest range that meets [start, end), and those after it. */
static struct node *first_meeting(struct node *n, uint64_t start, uint64_t end)
{
	for (;;) {
		if (n->left && n->left->most > start) {
			n = n->left;
			continue;
		}
		if (n->key < end) {
			if (n->end > start)
				return n;
			if (n->right && n->right->most > start) {
				n = n->right;
				continue;
			}
		}
		return NULL;
	}
}

static struct node *next_meeting(struct node *n, uint64_t start, uint64_t end)
{
	for (;;) {
		if (n->right && n->right->most > start)
			return first_meeting(n->right, start, end);
		struct node *from;
		do {
			from = n;
			n = n->parent;
			if (!n)
				return NULL;
		} while (n->right == from);
		if (n->key >= end)
			return NULL;
		if (n->end > start)
			return n;
	}
}

static __attribute__((noinline)) uint64_t host_range(uint64_t start, uint64_t end)
{
	uint64_t sum = 0;
	if (!hosts.root || hosts.root->most <= start)
		return 0;
	for (struct node *n = first_meeting(hosts.root, start, end); n; n = next_meeting(n, start, end)) {
		struct slot *slot = SLOT(n, hva);
		uint64_t from = start > n->key ? start : n->key;
		uint64_t to = end < n->end ? end : n->end;
		sum += slot->base + (from - n->key) / 4096 + (to - n->key + 4095) / 4096;
	}
	return sum;
}

static int overlaps(uint64_t base, uint64_t end, struct slot *except)
{
	struct node *n = frames.root;
	while (n) {
		if (end <= n->key) {
			n = n->left;
		} else if (base >= n->end) {
			n = n->right;
		} else if (SLOT(n, gfn) == except) {
			/* its neighbours decide */
			struct node *side = n->left;
			while (side && side->right)
				side = side->right;
			struct node *p = n;
			if (!side) {
				while (p->parent && p->parent->left == p)
					p = p->parent;
				side = p->parent;
			}
			if (side && side->end > base && side->key < end)
				return 1;
			side = n->right;
			while (side && side->left)
				side = side->left;
			if (!side) {
				p = n;
				while (p->parent && p->parent->right == p)
					p = p->parent;
				side = p->parent;
			}
			return side && side->key < end && side->end > base;
		} else {
			return 1;
		}
	}
	return 0;
}

static __attribute__((noinline)) int change(uint64_t id, uint32_t flags, uint64_t gpa, uint64_t size, uint64_t hva)
{
	uint64_t base = gpa / 4096, pages = size / 4096;
	if (!region_ok(id, capacity, flags, gpa, size, hva))
		return -22;
	struct slot *slot = &slots[id];
	if (!pages) {
		if (!slot->used)
			return -22;
		slot->flags |= 1u << 16;
		generation += 2;
		erase(&frames, &slot->gfn);
		erase(&hosts, &slot->hva);
		slot->used = 0;
		if (last == slot)
			last = NULL;
		generation += 2;
		return 0;
	}
	if (!slot->used) {
		if (overlaps(base, base + pages, NULL))
			return -17;
		memset(slot, 0, sizeof(*slot));
		slot->base = slot->gfn.key = base;
		slot->gfn.end = base + pages;
		slot->pages = pages;
		slot->address = slot->hva.key = hva;
		slot->hva.end = hva + size;
		slot->flags = flags;
		slot->id = id;
		slot->used = 1;
		insert(&frames, &slot->gfn);
		insert(&hosts, &slot->hva);
		generation += 2;
		return 0;
	}
	if (slot->address != hva || slot->pages != pages || ((slot->flags ^ flags) & 2))
		return -22;
	if (slot->base == base)
		return 0;
	if (overlaps(base, base + pages, slot))
		return -17;
	slot->flags |= 1u << 16;
	generation += 2;
	erase(&frames, &slot->gfn);
	slot->base = slot->gfn.key = base;
	slot->gfn.end = base + pages;
	slot->flags = flags;
	insert(&frames, &slot->gfn);
	generation += 2;
	return 0;
}

/* Whether the tree is one: order, colours, furthest ends. Returns the black height, or dies. */
static int checked(struct node *n, int ranges)
{
	if (!n)
		return 1;
	int left = checked(n->left, ranges), right = checked(n->right, ranges);
	uint64_t most = n->most;
	refresh(n);
	if (left != right || (ranges && most != n->most) || (n->red && ((n->left && n->left->red) || (n->right && n->right->red))) ||
	    (n->left && (n->left->key > n->key || n->left->parent != n)) || (n->right && (n->right->key < n->key || n->right->parent != n))) {
		fprintf(stderr, "the tree is broken\n");
		exit(1);
	}
	return left + !n->red;
}

int main(int argc, char **argv)
{
	struct workload w = read_workload(argv[argc - 1]);
	capacity = w.slots;
	slots = calloc(w.slots, sizeof(*slots));
	for (uint64_t i = 0; i < w.slots; i++)
		if (change(w.region[i].id, 0, w.region[i].base * 4096, w.region[i].pages * 4096, w.region[i].hva))
			return 1;
	printf("{");
	MEASURE("hit", w.queries, sink += to_hva(w.hit[i]));
	MEASURE("spread", w.queries, sink += to_hva(w.spread[i]));
	MEASURE("same", w.queries, sink += to_hva(w.same[i]));
	MEASURE("miss", w.queries, sink += to_hva(w.miss[i]));
	MEASURE("change", w.changes, {
		struct region *r = &w.region[w.change[i]];
		if (change(r->id, 0, 0, 0, 0) || change(r->id, 0, r->base * 4096, r->pages * 4096, r->hva))
			return 1;
	});
	MEASURE("move", w.moves * 2, {
		struct region *r = &w.region[w.move_id[i / 2]];
		if (change(r->id, 0, (i & 1 ? r->base : w.move_to[i / 2]) * 4096, r->pages * 4096, r->hva))
			return 1;
	});
	MEASURE("hva", w.queries, sink += host_range(w.hva[i], w.hva[i] + 4096));
	checked(frames.root, 0);
	checked(hosts.root, 1);
	printf("\"bytes\":%.1f,\"sink\":%llu}\n", (double)sizeof(struct slot), (unsigned long long)(sink & 1));
	return 0;
}
