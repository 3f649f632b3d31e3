/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm_allocator.hpp - a C++ standard allocator over a heap in an arena.
 *
 * Containers with it, which lie in the arena themselves, hold plain pointers
 * into it and can be used by every process that has the arena open, as long as
 * all are built with the same standard library, and one at a time or only
 * reading, as among threads. Not for types with virtual functions.
 */
#ifndef EXAMPLES_SHM_ALLOCATOR_HPP
#define EXAMPLES_SHM_ALLOCATOR_HPP

#include <cstddef>
#include <cstdint>
#include <new>
#include <scoped_allocator>
#include <string>
#include <type_traits>
#include <utility>

#include <tmc/mspace.h>

template <class T> struct shm_allocator {
	using value_type = T;
	/* Memory stays in its heap, and so in its arena: a container moved to
	 * another heap moves its elements. */
	using is_always_equal = std::false_type;

	shm_allocator(tmc_mspace h) noexcept : heap(h)
	{
	}

	template <class U>
	shm_allocator(const shm_allocator<U> &o) noexcept : heap(o.heap)
	{
	}

	T *allocate(std::size_t n)
	{
		void *p;

		if (n > SIZE_MAX / sizeof(T))
			throw std::bad_alloc();
		p = tmc_mspace_memalign(heap, alignof(T), n * sizeof(T));
		if (!p)
			throw std::bad_alloc();
		return static_cast<T *>(p);
	}

	void deallocate(T *p, std::size_t) noexcept
	{
		tmc_mspace_free(p);
	}

	tmc_mspace heap;
};

template <class T, class U>
bool operator==(const shm_allocator<T> &a, const shm_allocator<U> &b) noexcept
{
	return a.heap == b.heap;
}

template <class T, class U>
bool operator!=(const shm_allocator<T> &a, const shm_allocator<U> &b) noexcept
{
	return !(a == b);
}

using shm_string =
	std::basic_string<char, std::char_traits<char>, shm_allocator<char>>;

/* For containers of containers: elements get the allocator, too. */
template <class T>
using shm_scoped = std::scoped_allocator_adaptor<shm_allocator<T>>;

/* new and delete in a heap. */
template <class T, class... Args> T *shm_new(tmc_mspace heap, Args &&...args)
{
	shm_allocator<T> a(heap);
	T *p = a.allocate(1);

	try {
		return new (p) T(std::forward<Args>(args)...);
	} catch (...) {
		a.deallocate(p, 1);
		throw;
	}
}

template <class T> void shm_delete(T *p) noexcept
{
	p->~T();
	tmc_mspace_free(p);
}

#endif
