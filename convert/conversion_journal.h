#pragma once
// The journal of a conversion: which tensors of the unfinished container are finished, and what is known of
// them beside their bytes. It stands beside the container's part file (base/part_file.h):
//
//   header   128 bytes: magic, number of tensors, digests of program, release and recipe, zeros, check
//   record   104 bytes: index, tokens, squared error, squared weights, digest, source digest, check
//
// Records stand in container order, from tensor 0 on. They say what the bytes hash to, so a reader who hashes
// them needs no promise about what reached the disk first. A record that was torn or changed ends the
// journal.

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"
#include "convert/quantize.h"

namespace sluice::convert {

/// Everything that decides a container's tensors. When all of it is the same, so are their bytes.
struct ConversionIdentity {
  std::uint64_t tensors = 0;
  base::Sha256 program;  ///< the build
  base::Sha256 release;  ///< its files, as far as they can be told without reading them
  base::Sha256 recipe;   ///< types, calibration text

  friend bool operator==(const ConversionIdentity&, const ConversionIdentity&) = default;
};

struct FinishedTensor {
  base::Sha256 digest;         ///< of its bytes in the container
  base::Sha256 source_digest;  ///< of its released bytes
  QuantError error;
  std::uint64_t tokens = 0;  ///< of the calibration text that its expert saw

  friend bool operator==(const FinishedTensor&, const FinishedTensor&) = default;
};

struct JournalContent {
  std::string refusal;  ///< why the journal says nothing about this conversion; empty when it does
  std::vector<FinishedTensor> finished;
};

/// A journal that is empty, or was torn while it was begun, is one of no tensors.
[[nodiscard]] JournalContent parse_conversion_journal(base::Bytes content,
                                                      const ConversionIdentity& identity);

/// How a journal of this conversion begins.
[[nodiscard]] std::vector<std::byte> conversion_journal_header(const ConversionIdentity& identity);

/// Of one writer. Errors: io, no_space.
class ConversionJournal final {
 public:
  /// Reads what is in the file, and starts anew when it is refused.
  ConversionJournal(base::File& file, const ConversionIdentity& identity);

  [[nodiscard]] const std::string& refusal() const { return content_.refusal; }
  [[nodiscard]] const std::vector<FinishedTensor>& finished() const { return content_.finished; }

  /// In the file on return; durable after sync().
  void append(const FinishedTensor& tensor);
  void sync() { file_.sync(); }
  /// Forgets all but the first `count` tensors.
  void keep(std::size_t count);

 private:
  base::File& file_;
  std::vector<std::byte> header_;
  JournalContent content_;
};

}  // namespace sluice::convert
