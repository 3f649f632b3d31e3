/* SPDX-License-Identifier: BSD-3-Clause */
/* view.c - what threads have at hand of heaps, and how it is taken from them */
/*
 * The list has the views of all threads of this process. Its lock is the
 * innermost of all: who holds it calls nobody.
 */
#include "view.h"

#include <pthread.h>
#include <stdbool.h>

_Atomic uint64_t shmi_heap_epoch = 1;
struct heap_known shmi_view_empty[HEAP_KNOWN];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shmi_view *views;
_Atomic uint64_t shmi_view_numbers; /* under the lock */

static _Thread_local struct shmi_view *mine;

/* Under the lock. */
static void enter(struct shmi_view *v)
{
	v->next = views;
	v->at = &views;
	if (views)
		views->at = &v->next;
	views = v;
}

/* Under the lock. Once all have been given out, none that another has. */
static uint32_t next_number(uint32_t most)
{
	const struct shmi_view *v;
	uint32_t n;

	do {
		bool again = shmi_view_numbers > most;

		n = (uint32_t)(shmi_view_numbers++ % ((uint64_t)most + 1));
		for (v = again ? views : NULL; v && v->number != n; v = v->next)
			;
	} while (v);
	return n;
}

void shmi_view_add(struct shmi_view *v, uint32_t most)
{
	v->mine = mine;
	mine = v;
	pthread_mutex_lock(&lock);
	v->number = next_number(most);
	enter(v);
	pthread_mutex_unlock(&lock);
}

void shmi_view_drop(struct shmi_view *v)
{
	struct shmi_view **at = &mine;

	while (*at != v)
		at = &(*at)->mine;
	*at = v->mine;
	pthread_mutex_lock(&lock);
	*v->at = v->next;
	if (v->next)
		v->next->at = v->at;
	pthread_mutex_unlock(&lock);
}

void shmi_view_void(void)
{
	struct shmi_view *v;

	atomic_fetch_add_explicit(&shmi_heap_epoch, 1, memory_order_relaxed);
	pthread_mutex_lock(&lock);
	for (v = views; v; v = v->next) {
		atomic_store_explicit(&v->h, SHMI_NO_HEAP,
				      memory_order_relaxed);
		atomic_store_explicit(&v->map, (uintptr_t)shmi_view_empty,
				      memory_order_relaxed);
	}
	pthread_mutex_unlock(&lock);
}

/*
 * Another thread of the parent may have been at the list, whose lock a fork
 * cannot take: who closes an arena has the arenas' lock before it, and a fork
 * after. What counts in the child is its only thread's.
 */
void shmi_view_forked(void)
{
	struct shmi_view *v;

	pthread_mutex_init(&lock, NULL);
	views = NULL;
	for (v = mine; v; v = v->mine)
		enter(v);
	shmi_view_void();
}
