#pragma once
// The front door of `base`: bytes, files, digests, threads and errors. It knows no model and no torrent.
//
//   error.h          the one exception type and its exit codes
//   invariant.h      aborts on bugs
//   bytes.h          little-endian access, checked arithmetic
//   byte_range.h     a stretch of bytes
//   ascii.h          ASCII case, percent-encoding, numbers
//   text.h           sizes for people, UTF-8
//   unicode.h        normal forms, display columns
//   stopwatch.h      monotonic time
//   file.h           files, maps, atomic writes
//   file_lock.h      locks between processes
//   directory.h      files below a folder; follows no link
//   part_file.h      a file that takes several runs
//   digest.h         digest values
//   hasher.h         computes digests
//   paired_hasher.h  SHA of two streams at once
//   zip_codec.h      checksum and compression of zip files
//   merkle.h         the BEP 52 tree
//   multi_digest.h   every digest in one read
//   signature.h      keys and signatures in minisign's files
//   ed25519.h        the signature algorithm
//   parallel.h       fork-join worker pool
//   progress.h       reports of work in progress
//
// multi_digest.h is built from digest_plan.h (which bytes make up one unit of work), digest_files.h (the open
// files), unit_reader.h and unit_hasher.h; those from page_cache.h, guarded_mapping.h, aligned_buffer.h and
// disk.h.

#include "base/ascii.h"          // IWYU pragma: export
#include "base/base64.h"         // IWYU pragma: export
#include "base/byte_range.h"     // IWYU pragma: export
#include "base/bytes.h"          // IWYU pragma: export
#include "base/digest.h"         // IWYU pragma: export
#include "base/directory.h"      // IWYU pragma: export
#include "base/ed25519.h"        // IWYU pragma: export
#include "base/error.h"          // IWYU pragma: export
#include "base/file.h"           // IWYU pragma: export
#include "base/file_lock.h"      // IWYU pragma: export
#include "base/hasher.h"         // IWYU pragma: export
#include "base/invariant.h"      // IWYU pragma: export
#include "base/merkle.h"         // IWYU pragma: export
#include "base/multi_digest.h"   // IWYU pragma: export
#include "base/paired_hasher.h"  // IWYU pragma: export
#include "base/parallel.h"       // IWYU pragma: export
#include "base/progress.h"       // IWYU pragma: export
#include "base/signature.h"      // IWYU pragma: export
#include "base/stopwatch.h"      // IWYU pragma: export
#include "base/text.h"           // IWYU pragma: export
#include "base/unicode.h"        // IWYU pragma: export
