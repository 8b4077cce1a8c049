#include "storage/blockio.h"
void
ltg_blockio_free(LtgSession *s)
{
	(void) s;
}
