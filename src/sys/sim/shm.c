/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory of a simulated machine: plain memory with a count of its handles.  It ends with the
 * last handle, so it does not outlive the process. */
#include "base/check.h"
#include "sys/sim/net.h"
#include <stdlib.h>
#include <string.h>

enum { SHM_ALIGN = 4096 };

struct shm_mem {
	uint32_t refs;
	uint64_t len;
	uint8_t *base, *p;
};
struct sys_shm {
	struct list link;
	struct sys *sys;
	struct shm_mem *mem;
	bool readonly;
};

void shm_mem_put(struct shm_mem *mem)
{
	check(mem->refs > 0);
	if (--mem->refs > 0)
		return;
	free(mem->base);
	free(mem);
}

struct sys_shm *shm_handle(struct sys *s, struct shm_mem *mem, bool readonly)
{
	struct sys_shm *m = calloc(1, sizeof *m);

	check(m != NULL);
	m->sys = s;
	m->mem = mem;
	m->readonly = readonly;
	list_push(&s->shms, &m->link);
	return m;
}

struct shm_mem *shm_mem_of(struct sys_shm *m, bool *ret_readonly)
{
	*ret_readonly = m->readonly;
	m->mem->refs++;
	return m->mem;
}

int sys_shm_new(struct sys *s, const char *name, uint64_t len, struct sys_shm **ret_m,
	struct err_note *note)
{
	struct shm_mem *mem;

	if (s->dead)
		return err_set(note, sys_dead(s), "shared memory %s: canceled", name);
	if (node_fails(s->node, "shared memory", name))
		return err_set(note, E_NOMEM, "shared memory %s", name);
	if (len == 0 || len > sys_memory_total(s))
		return err_set(note, E_INVALID, "shared memory %s: %llu bytes", name,
			(unsigned long long)len);
	mem = calloc(1, sizeof *mem);
	check(mem != NULL);
	mem->base = calloc(1, len + SHM_ALIGN);
	if (mem->base == NULL) {
		free(mem);
		return err_set(note, E_NOMEM, "shared memory %s: %llu bytes", name,
			(unsigned long long)len);
	}
	mem->p = mem->base + (SHM_ALIGN - (uintptr_t)mem->base % SHM_ALIGN) % SHM_ALIGN;
	mem->len = len;
	mem->refs = 1;
	*ret_m = shm_handle(s, mem, false);
	return 0;
}

int sys_shm_reader(struct sys_shm *m, struct sys_shm **ret_reader, struct err_note *note)
{
	if (m->sys->dead)
		return err_set(note, sys_dead(m->sys), "shared memory: canceled");
	if (node_fails(m->sys->node, "shared memory", "reader"))
		return err_set(note, E_NOMEM, "shared memory: a handle for readers");
	m->mem->refs++;
	*ret_reader = shm_handle(m->sys, m->mem, true);
	return 0;
}

int sys_shm_map(struct sys_shm *m, void **ret_p, struct err_note *note)
{
	if (m->sys->dead)
		return err_set(note, sys_dead(m->sys), "shared memory: canceled");
	if (node_fails(m->sys->node, "shared memory", "map"))
		return err_set(note, E_NOMEM, "shared memory: no room to map it");
	*ret_p = m->mem->p;
	return 0;
}

uint64_t sys_shm_bytes(const struct sys_shm *m)
{
	return m->mem->len;
}

void sys_shm_empty(struct sys_shm *m)
{
	check(!m->readonly);
	memset(m->mem->p, 0, m->mem->len);
}

void sys_shm_close(struct sys_shm *m)
{
	if (m == NULL)
		return;
	shm_mem_put(m->mem);
	list_remove(&m->link);
	free(m);
}

static void touch_nothing(void *arg) {}

int sys_shm_prefault(struct sys_shm *m, uint64_t off, uint64_t len)
{
	check(len <= m->mem->len);
	check(off <= m->mem->len - len);
	if (!m->sys->dead && node_fails(m->sys->node, "shared memory", "prefault"))
		return E_NOMEM;
	return sys_work(m->sys, touch_nothing, NULL);
}
