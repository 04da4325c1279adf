#pragma once
// Compares the digests of a release's files with the expected ones and finds the bytes that are wrong, as
// precisely as the expected digests allow.
//
// Digests locate damage with different precision: BEP 52 leaves to 16 KiB, piece layers and v1 pieces to a
// piece, digests of whole files not at all. The most precise digest of a file decides; a less precise one
// counts only when no more precise one explains why it differs. v1 pieces continue across file borders: a
// wrong one counts against those of its files whose SHA-256 does not show that they are right.

#include <string>
#include <vector>

#include "base/byte_range.h"
#include "base/multi_digest.h"
#include "verify/expected_file.h"

namespace sluice::verify {

struct FileFindings {
  std::vector<base::ByteRange> bad;  ///< wrong, by the most precise digest
  /// Cannot be verified: the range shares a v1 piece with bytes that cannot be read.
  std::vector<base::ByteRange> unknown;
  std::string problem;    ///< expected and found value; empty when `bad` says everything
  bool compared = false;  ///< at least one digest of this file was compared

  // Intermediate results of compare_digests().
  bool located = false;     ///< leaves or a piece layer were compared, so `bad` is precise
  bool is_correct = false;  ///< a SHA-256 over the whole file matches, and no digest of the file differs
  bool differs = false;     ///< a size or a digest of the whole file differs
};

/// The kinds of digests that were compared for at least one file.
struct ComparedKinds {
  bool v1 = false;
  bool v2 = false;
  bool sha256 = false;
  bool md5 = false;

  [[nodiscard]] bool any() const { return v1 || v2 || sha256 || md5; }
};

/// The digests of the files on disk; digests.files are in the order of the expected files.
struct ComputedDigests {
  base::StreamDigests digests;
  std::uint64_t blocks_per_node = 1;  ///< of FileDigests::layer
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

/// True when the file was read up to its end or its expected length.
[[nodiscard]] bool was_read(const base::FileDigests& digests);

/// One FileFindings for each expected file, with normalized ranges. A file that could not be read has empty
/// ones. Adds to `kinds`. Error{malformed} for a torrent whose v1 pieces cannot be right.
[[nodiscard]] std::vector<FileFindings> compare_digests(const Expectations& expectations,
                                                        const std::vector<ExpectedFile>& expected_files,
                                                        const ComputedDigests& computed,
                                                        ComparedKinds& kinds);

}  // namespace sluice::verify
