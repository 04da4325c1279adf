#pragma once
// The journal of a conversion: which tensors of the unfinished container are finished, with their digests,
// errors and token counts. It lies next to the container's part file (base/part_file.h):
//
//   header   128 bytes: magic, number of tensors, digests of program, release and recipe, zeros, check
//   record   104 bytes: index, tokens, squared error, squared weights, digest, source digest, check
//
// Records follow in container order, from tensor 0 on. Each has the digest of the tensor's bytes, so a reader
// that hashes the bytes does not depend on the order in which file and journal reached the disk. The first
// record that was torn or changed ends the journal.

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"
#include "convert/quant_error.h"

namespace sluice::convert {

/// Everything that decides a container's tensors. When all of it is the same, so are their bytes.
struct ConversionIdentity {
  std::uint64_t tensors = 0;
  base::Sha256 program;  ///< the build id
  base::Sha256 release;  ///< the release's files, identified without reading them
  base::Sha256 recipe;   ///< types, calibration text

  friend bool operator==(const ConversionIdentity&, const ConversionIdentity&) = default;
};

struct FinishedTensor {
  base::Sha256 digest;         ///< of the tensor's bytes in the container
  base::Sha256 source_digest;  ///< of the released bytes
  QuantError error;
  std::uint64_t tokens = 0;  ///< number of calibration tokens that its expert saw

  friend bool operator==(const FinishedTensor&, const FinishedTensor&) = default;
};

struct JournalContent {
  std::string refusal;  ///< why the journal is not this conversion's; empty when it is
  std::vector<FinishedTensor> finished;
};

/// An empty journal, or one that was torn in its header, has no finished tensors.
[[nodiscard]] JournalContent parse_conversion_journal(base::Bytes content,
                                                      const ConversionIdentity& identity);

/// The header of this conversion's journal.
[[nodiscard]] std::vector<std::byte> conversion_journal_header(const ConversionIdentity& identity);

/// Used by one thread of one process. Errors: io, no_space.
class ConversionJournal final {
 public:
  /// Reads the journal in the file, and starts a new one when it is refused.
  ConversionJournal(base::File& file, const ConversionIdentity& identity);

  [[nodiscard]] const std::string& refusal() const { return content_.refusal; }
  [[nodiscard]] const std::vector<FinishedTensor>& finished() const { return content_.finished; }

  /// The record is in the file on return, and durable after sync().
  void append(const FinishedTensor& tensor);
  void sync() { file_.sync(); }
  /// Drops all but the first `count` tensors.
  void keep(std::size_t count);

 private:
  base::File& file_;
  std::vector<std::byte> header_;
  JournalContent content_;
};

}  // namespace sluice::convert
