/*
 * crc32c.h
 *	  CRC-32C (Castagnoli), the checksum of everything the engine writes.
 */
#ifndef LTG_CRC32C_H
#define LTG_CRC32C_H

#include "base/common.h"

/* Continue crc (0 to start) over len bytes. */
extern uint32_t ltg_crc32c(uint32_t crc, const void *data, size_t len);
/* The portable version, for tests. */
extern uint32_t ltg_crc32c_soft(uint32_t crc, const void *data, size_t len);

#endif
