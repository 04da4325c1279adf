#pragma once
// The front door of `base`: bytes, files, digests, threads and errors. It knows no model and no torrent.
//
//   error.h         the one exception type and its exit codes      invariant.h  what aborts when we are wrong
//   bytes.h         little-endian access, checked arithmetic       text.h       sizes for people, UTF-8
//   file.h          files, maps, atomic writes, locks              progress.h   how work tells what it does
//   directory.h     files below a folder, no link followed
//   digest.h        digest values                                  hasher.h     what makes them
//   lane_hasher.h   SHA of two streams side by side                sha_unit.h   the CPU's instructions for it
//   signature.h     keys and signatures in minisign's files        ed25519.h    what they are made of
//   merkle.h        the BEP 52 tree                                multi_digest.h  every digest in one read
//   parallel.h      fork-join worker pool
//
// Behind multi_digest.h stand digest_plan.h (what is read by whom), digest_files.h, strand_reader.h and
// strand_hasher.h; behind these page_cache.h, guarded_mapping.h, aligned_buffer.h and disk.h.

#include "base/base64.h"        // IWYU pragma: export
#include "base/bytes.h"         // IWYU pragma: export
#include "base/digest.h"        // IWYU pragma: export
#include "base/directory.h"     // IWYU pragma: export
#include "base/ed25519.h"       // IWYU pragma: export
#include "base/error.h"         // IWYU pragma: export
#include "base/file.h"          // IWYU pragma: export
#include "base/hasher.h"        // IWYU pragma: export
#include "base/invariant.h"     // IWYU pragma: export
#include "base/lane_hasher.h"   // IWYU pragma: export
#include "base/merkle.h"        // IWYU pragma: export
#include "base/multi_digest.h"  // IWYU pragma: export
#include "base/parallel.h"      // IWYU pragma: export
#include "base/progress.h"      // IWYU pragma: export
#include "base/signature.h"     // IWYU pragma: export
#include "base/text.h"          // IWYU pragma: export
