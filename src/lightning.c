/*
 * lightning.c
 *	  Entry point of the library.  Everything else is elsewhere.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "lightning.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

/*
 * Loaded too late (CREATE EXTENSION without the library being preloaded), the
 * library stays inert: there is no shared memory, no resource manager and no
 * worker, and every use ends in lightning_require_preload().
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	lightning_define_gucs();
	lightning_shmem_init();
	lightning_register_rmgr();
	lightning_gate_init();
	lightning_register_workers();
	lightning_install_hooks();
	lightning_install_size_hooks();
}
