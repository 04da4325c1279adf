#pragma once
// What the digests of a release's files say: which bytes are wrong, as closely as any of the promised digests
// can place them.
//
// Digests differ in grain. BEP 52 leaves place damage to 16 KiB, piece layers and v1 pieces to a piece,
// digests of whole files not at all. The finest one that a file has wins; a coarser one counts only where
// nothing finer explains why it differs. v1 pieces run across file borders: a wrong one is held against those
// of its files that no SHA-256 clears.

#include <string>
#include <vector>

#include "base/byte_range.h"
#include "base/multi_digest.h"
#include "verify/promise.h"

namespace sluice::verify {

struct Evidence {
  std::vector<base::ByteRange> bad;  ///< wrong, by the finest digest there is
  /// Cannot be verified: the range shares a v1 piece with bytes that cannot be read.
  std::vector<base::ByteRange> unknown;
  std::string problem;    ///< expected and found; empty when only `bad` says it
  bool compared = false;  ///< some digest of this file was compared

  // How `bad` was found, from one step of weigh() to the next.
  bool located = false;  ///< leaves or a piece layer were compared
  bool cleared = false;  ///< a SHA-256 over all of the file is right, and no digest of it is wrong
  bool differs = false;  ///< a digest or size that says nothing about the place is wrong
};

/// Which kinds of digests were compared at all.
struct Proofs {
  bool v1 = false;
  bool v2 = false;
  bool sha256 = false;
  bool md5 = false;

  [[nodiscard]] bool any() const { return v1 || v2 || sha256 || md5; }
};

/// What was computed: digests.files in the order of the promises.
struct Computed {
  base::StreamDigests digests;
  std::uint64_t blocks_per_node = 1;  ///< of the rows in FileDigests::layer
};

/// The units of `unit_bytes` up to `end_bytes` for which `is_bad(unit_index)`; the last one may be shorter.
/// They are not joined.
template <typename IsBad>
[[nodiscard]] std::vector<base::ByteRange> bad_units(std::uint64_t unit_bytes, std::uint64_t end_bytes,
                                                     IsBad is_bad) {
  std::vector<base::ByteRange> bad;
  for (std::uint64_t start = 0, index = 0; start < end_bytes; start += unit_bytes, ++index) {
    const std::uint64_t left_bytes = end_bytes - start;
    if (is_bad(index)) bad.push_back({start, left_bytes < unit_bytes ? left_bytes : unit_bytes});
  }
  return bad;
}

[[nodiscard]] bool was_read(const base::FileDigests& digests);

/// One Evidence a promise, with ranges joined. A file that could not be read keeps an empty one.
[[nodiscard]] std::vector<Evidence> weigh(const Expectations& expectations,
                                          const std::vector<Promise>& promises, const Computed& computed,
                                          Proofs& proofs);

}  // namespace sluice::verify
