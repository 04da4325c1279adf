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

#include "base/multi_digest.h"
#include "verify/promise.h"
#include "verify/ranges.h"

namespace sluice::verify {

struct Evidence {
  std::vector<Range> bad;      ///< wrong, by the finest digest there is
  std::vector<Range> unknown;  ///< cannot be judged: shares a v1 piece with bytes that cannot be read
  std::string problem;         ///< expected and found; empty when only `bad` says it
  bool compared = false;       ///< some digest of this file was compared

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

[[nodiscard]] bool was_read(const base::FileDigests& digests);

/// One Evidence a promise, with ranges joined. A file that could not be read keeps an empty one.
[[nodiscard]] std::vector<Evidence> weigh(const Expectations& expectations,
                                          const std::vector<Promise>& promises, const Computed& computed,
                                          Proofs& proofs);

}  // namespace sluice::verify
