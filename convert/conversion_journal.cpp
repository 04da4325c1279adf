// The bytes of a conversion's journal (layout in conversion_journal.h). Records have one size, so record i
// lies at a fixed place and a torn write damages one record only. The check of a record covers the header's
// check as well, so that records of an earlier journal in the same file cannot be taken for current ones. A
// journal is never repaired: whatever is behind the first bad record is converted again.

#include "convert/conversion_journal.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>

#include "base/hasher.h"
#include "base/invariant.h"

namespace sluice::convert {
namespace {

constexpr std::string_view kMagic = "SLUICEC1";
// Eight bytes of a SHA-256 detect accidents; the container's bytes are proven by full digests.
constexpr std::size_t kCheckBytes = 8;
constexpr std::size_t kDigestBytes = base::Sha256::kBytes;
// Offsets in the header:
constexpr std::size_t kTensorsAt = 8;
constexpr std::size_t kProgramAt = 16;
constexpr std::size_t kReleaseAt = kProgramAt + kDigestBytes;
constexpr std::size_t kRecipeAt = kReleaseAt + kDigestBytes;
constexpr std::size_t kHeaderBytes = 128;
static_assert(kRecipeAt + kDigestBytes + kCheckBytes <= kHeaderBytes);
// Offsets in a record:
constexpr std::size_t kIndexAt = 0;
constexpr std::size_t kTokensAt = 8;
constexpr std::size_t kErrorAt = 16;
constexpr std::size_t kWeightsAt = 24;
constexpr std::size_t kDigestAt = 32;
constexpr std::size_t kSourceDigestAt = kDigestAt + kDigestBytes;
constexpr std::size_t kRecordBytes = kSourceDigestAt + kDigestBytes + kCheckBytes;

/// Writes the check of `part` into its last eight bytes: the start of a SHA-256 over the salt and the bytes
/// before them. A record's salt is its header's check, so that records of another journal do not pass.
void seal(base::Bytes salt, base::MutableBytes part) {
  base::Hasher<base::Sha256> hasher;
  hasher.update(salt);
  hasher.update(part.first(part.size() - kCheckBytes));
  const base::Sha256 digest = hasher.final();
  std::copy_n(digest.bytes.begin(), kCheckBytes, part.last(kCheckBytes).begin());
}

bool is_sealed(base::Bytes salt, base::Bytes part) {
  std::vector<std::byte> again(part.begin(), part.end());
  seal(salt, again);
  return std::ranges::equal(part, again);
}

void store_digest(base::MutableBytes out, std::size_t at, const base::Sha256& digest) {
  std::ranges::copy(digest.bytes, out.subspan(at).begin());
}

base::Sha256 load_digest(base::Bytes in, std::size_t at) {
  base::Sha256 digest;
  std::copy_n(in.subspan(at).begin(), kDigestBytes, digest.bytes.begin());
  return digest;
}

base::Bytes salt_of(base::Bytes header) { return header.last(kCheckBytes); }

std::array<std::byte, kRecordBytes> make_record(std::uint64_t index, const FinishedTensor& tensor,
                                                base::Bytes salt) {
  std::array<std::byte, kRecordBytes> record{};
  base::store_le<std::uint64_t>(record, kIndexAt, index);
  base::store_le<std::uint64_t>(record, kTokensAt, tensor.tokens);
  base::store_le<double>(record, kErrorAt, tensor.error.squared_error);
  base::store_le<double>(record, kWeightsAt, tensor.error.squared_weights);
  store_digest(record, kDigestAt, tensor.digest);
  store_digest(record, kSourceDigestAt, tensor.source_digest);
  seal(salt, record);
  return record;
}

bool is_sum_of_squares(double value) { return std::isfinite(value) && value >= 0; }

/// Nothing for a record that was torn or changed, or belongs to another tensor.
std::optional<FinishedTensor> load_record(base::Bytes record, std::uint64_t index, base::Bytes salt) {
  if (!is_sealed(salt, record) || base::load_le<std::uint64_t>(record, kIndexAt) != index)
    return std::nullopt;
  FinishedTensor tensor;
  tensor.tokens = base::load_le<std::uint64_t>(record, kTokensAt);
  tensor.error.squared_error = base::load_le<double>(record, kErrorAt);
  tensor.error.squared_weights = base::load_le<double>(record, kWeightsAt);
  tensor.digest = load_digest(record, kDigestAt);
  tensor.source_digest = load_digest(record, kSourceDigestAt);
  if (!is_sum_of_squares(tensor.error.squared_error) || !is_sum_of_squares(tensor.error.squared_weights))
    return std::nullopt;
  return tensor;
}

/// Says why a complete header is not that of this conversion; empty when it is.
std::string find_refusal(base::Bytes header, const ConversionIdentity& identity) {
  if (base::as_text(header.first(kMagic.size())) != kMagic)
    return "its journal is not one that this version writes";
  if (!is_sealed({}, header)) return "its journal is damaged";
  // From the most general difference to the most particular, so that the message names the cause and not a
  // consequence.
  if (load_digest(header, kProgramAt) != identity.program) return "another build of this program began it";
  if (load_digest(header, kReleaseAt) != identity.release)
    return "it was made of another release, or of other files";
  if (load_digest(header, kRecipeAt) != identity.recipe) return "it was begun with other options";
  if (!std::ranges::equal(header, conversion_journal_header(identity)))
    return "its journal contradicts itself";
  return {};
}

}  // namespace

std::vector<std::byte> conversion_journal_header(const ConversionIdentity& identity) {
  std::vector<std::byte> header(kHeaderBytes);
  std::ranges::copy(base::as_bytes(kMagic), header.begin());
  base::store_le<std::uint64_t>(header, kTensorsAt, identity.tensors);
  store_digest(header, kProgramAt, identity.program);
  store_digest(header, kReleaseAt, identity.release);
  store_digest(header, kRecipeAt, identity.recipe);
  seal({}, header);
  return header;
}

JournalContent parse_conversion_journal(base::Bytes content, const ConversionIdentity& identity) {
  JournalContent result;
  // A header that was torn by a crash: nothing was finished, and nobody needs a warning.
  if (content.size() < kHeaderBytes) return result;
  const base::Bytes header = content.first(kHeaderBytes);
  result.refusal = find_refusal(header, identity);
  if (!result.refusal.empty()) return result;
  base::Bytes rest = content.subspan(kHeaderBytes);
  while (rest.size() >= kRecordBytes && result.finished.size() < identity.tensors) {
    const auto tensor = load_record(rest.first(kRecordBytes), result.finished.size(), salt_of(header));
    // Records behind a torn one may be whole, but tensors are finished in order only.
    if (!tensor) break;
    result.finished.push_back(*tensor);
    rest = rest.subspan(kRecordBytes);
  }
  return result;
}

ConversionJournal::ConversionJournal(base::File& file, const ConversionIdentity& identity)
    : file_(file), header_(conversion_journal_header(identity)) {
  std::vector<std::byte> bytes(kHeaderBytes + identity.tensors * kRecordBytes);
  // No more than this conversion can have written, whatever the file's size is.
  bytes.resize(file_.read_at(0, bytes));
  // Somebody else's journal could name tensors of somebody else's choice.
  if (base::only_this_user_writes(file_)) {
    content_ = parse_conversion_journal(bytes, identity);
  } else if (!bytes.empty()) {
    content_.refusal = "its journal can be written by another user";
  }
  if (content_.finished.empty()) {
    file_.resize(0);
    base::deny_others_writing(file_);
    file_.write_at(0, header_);
  }
  keep(content_.finished.size());
}

// The bytes of the tensor must be in the part file already (UnfinishedContainer::end_tensor).
void ConversionJournal::append(const FinishedTensor& tensor) {
  const std::size_t index = content_.finished.size();
  file_.write_at(kHeaderBytes + index * kRecordBytes, make_record(index, tensor, salt_of(header_)));
  content_.finished.push_back(tensor);
}

void ConversionJournal::keep(std::size_t count) {
  INVARIANT(count <= content_.finished.size());
  content_.finished.resize(count);
  file_.resize(kHeaderBytes + count * kRecordBytes);
}

}  // namespace sluice::convert
