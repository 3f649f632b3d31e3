// SPDX-License-Identifier: BSD-3-Clause
// boost.cpp - Boost.Interprocess for the benchmark's C; see adapter.h
#include <boost/interprocess/managed_shared_memory.hpp>

#include <cstdint>

namespace ipc = boost::interprocess;

static ipc::managed_shared_memory *segment;

extern "C" {

int boost_make(const char *name, std::size_t max)
{
	try {
		segment = new ipc::managed_shared_memory(ipc::create_only, name,
							 max);
		return 0;
	} catch (const std::exception &) {
		return -1;
	}
}

int boost_join(const char *name)
{
	try {
		segment = new ipc::managed_shared_memory(ipc::open_only, name);
		return 0;
	} catch (const std::exception &) {
		return -1;
	}
}

void boost_remove(const char *name)
{
	ipc::shared_memory_object::remove(name);
}

void *boost_take(std::size_t n)
{
	return segment->allocate(n, std::nothrow);
}

void boost_give(void *p)
{
	segment->deallocate(p);
}

std::uint64_t boost_word(const void *p)
{
	return static_cast<std::uint64_t>(segment->get_handle_from_address(p));
}

void *boost_address(std::uint64_t w)
{
	return segment->get_address_from_handle(
		static_cast<ipc::managed_shared_memory::handle_t>(w));
}
}
