// Reads the head of a GGUF file: key-value pairs and the list of tensors (format: ggml-org/ggml,
// docs/gguf.md, versions 2 and 3; version 1 had counts of 32 bits).
//
// The head has no length of its own, so it is read into memory as far as parsing gets, doubling the buffer,
// up to 256 MiB. take() is the only way to get bytes and checks each length against the rest of the file;
// counts are checked against the smallest size of their items before anything is allocated for them. Views
// that take() returns are valid until the next call, which may move the buffer. For a damaged file (`whole`
// false) tensors need not end with the file. Everything runs on the caller's thread.

#include "format/gguf/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/gguf/gguf_format.h"

namespace sluice::format {
namespace {

constexpr std::uint64_t kHeadBytesMax = 256u << 20;  // pairs and tensor infos; 152,000 tokens take 6 MB
constexpr std::uint64_t kDataBytesMax = 1ull << 62;  // of a damaged file, whose true size is not known
constexpr std::uint64_t kKeyBytesMax = 65535;        // docs/gguf.md
constexpr std::uint64_t kNameBytesMax = 512;
constexpr std::uint64_t kAxesMax = 4;  // GGML_MAX_DIMS

struct KnownType {
  GgufTensorType type;
  DType dtype;
};

constexpr std::array<KnownType, 5> kTypes{{{GgufTensorType::f32, DType::f32},
                                           {GgufTensorType::f16, DType::f16},
                                           {GgufTensorType::q4_0, DType::q4_0},
                                           {GgufTensorType::q8_0, DType::q8_0},
                                           {GgufTensorType::bf16, DType::bf16}}};

class GgufReader final {
 public:
  GgufReader(const std::filesystem::path& path, bool whole)
      : file_(base::File::open_read(path)),
        subject_(path.string()),
        file_bytes_(file_.size_bytes()),
        whole_(whole) {
    head_.resize(static_cast<std::size_t>(std::min(file_bytes_, kFirstRead)));
    file_.read_exact_at(0, head_);
  }

  [[nodiscard]] DamagedGguf read() {
    DamagedGguf result;
    CheckpointIndex& checkpoint = result.checkpoint;
    if (base::as_text(take(4, "magic")) != kGgufMagic)
      refuse("is no GGUF file: it does not begin with 'GGUF'");
    const auto version = number<std::uint32_t>("version");
    if (version != 2 && version != 3) {
      refuse("is of GGUF version " + std::to_string(version) +
             ((version & 0xFFFF) == 0 ? " (big-endian)" : "") + ", expected 2 or 3");
    }
    // The order of the fields is that of the file: version, number of tensors, number of pairs, pairs,
    // tensors.
    const auto tensor_count = number<std::uint64_t>("tensor count");
    const auto pair_count = number<std::uint64_t>("pair count");
    // A tensor takes at least 33 bytes, a pair at least 13.
    require_count(tensor_count, 33, "tensors");
    require_count(pair_count, 13, "pairs");
    for (std::uint64_t i = 0; i < pair_count; ++i) read_pair(i, checkpoint.gguf_pairs);
    // The alignment decides where the data begins and how tensors follow one another.
    read_alignment(checkpoint.gguf_pairs);
    checkpoint.kind = CheckpointKind::gguf;
    checkpoint.files = {file_.path()};
    for (std::uint64_t i = 0; i < tensor_count; ++i) checkpoint.tensors.push_back(read_tensor(i));
    result.data_offset_bytes = base::align_up(at_, alignment_);
    place_tensors(checkpoint.tensors, result.data_offset_bytes);
    return result;
  }

 private:
  // Enough for the head of most files; those with long vocabularies take a few more reads.
  static constexpr std::uint64_t kFirstRead = 1u << 20;

  [[noreturn]] void refuse(const std::string& cause) const { base::throw_malformed(subject_, cause); }

  /// The next bytes of the head, which is read from the file only as far as needed.
  base::Bytes take(std::uint64_t count, const std::string& what) {
    if (count > file_bytes_ - at_)
      refuse(what + " at byte " + std::to_string(at_) + ": needs " + std::to_string(count) +
             " bytes, the file has " + std::to_string(file_bytes_ - at_) + " more");
    if (count > kHeadBytesMax - at_) refuse("has more than 256 MiB before its tensors");
    if (at_ + count > head_.size()) {
      const std::size_t had = head_.size();
      head_.resize(
          static_cast<std::size_t>(std::min(file_bytes_, std::max<std::uint64_t>(2 * had, at_ + count))));
      file_.read_exact_at(had, base::MutableBytes(head_).subspan(had));
    }
    const auto bytes =
        base::Bytes(head_).subspan(static_cast<std::size_t>(at_), static_cast<std::size_t>(count));
    at_ += count;
    return bytes;
  }

  template <typename T>
  T number(const std::string& what) {
    return base::load_le<T>(take(sizeof(T), what));
  }

  /// A string is its length in 8 bytes and its bytes, without a NUL at the end.
  std::string string(const std::string& what, std::uint64_t bytes_max) {
    const auto length = number<std::uint64_t>(what);
    if (length > bytes_max)
      refuse(what + ": has " + std::to_string(length) + " bytes, at most " + std::to_string(bytes_max) +
             " are allowed");
    return std::string(base::as_text(take(length, what)));
  }

  /// Refuses a count for which the rest of the file is too short, before memory is reserved for it.
  void require_count(std::uint64_t count, std::uint64_t bytes_each, const std::string& what) const {
    if (count <= (file_bytes_ - at_) / bytes_each) return;
    refuse("names " + std::to_string(count) + " " + what + ", for which its " + std::to_string(file_bytes_) +
           " bytes are too few");
  }

  void read_pair(std::uint64_t index, GgufPairs& pairs) {
    const std::string key = string("key of pair " + std::to_string(index), kKeyBytesMax);
    const std::string what = "key '" + base::to_printable(key) + "'";
    if (key.empty() || base::to_printable(key) != key) refuse(what + ": is not a proper name");
    const auto type = number<std::uint32_t>(what);
    GgufValue value =
        type == static_cast<std::uint32_t>(GgufValueType::array) ? array(what) : scalar(type, what);
    if (!pairs.emplace(key, std::move(value)).second) refuse(what + ": occurs twice");
  }

  GgufValue scalar(std::uint32_t type, const std::string& what) {
    switch (static_cast<GgufValueType>(type)) {
      case GgufValueType::u8: return std::uint64_t{number<std::uint8_t>(what)};
      case GgufValueType::u16: return std::uint64_t{number<std::uint16_t>(what)};
      case GgufValueType::u32: return std::uint64_t{number<std::uint32_t>(what)};
      case GgufValueType::u64: return number<std::uint64_t>(what);
      case GgufValueType::i8: return std::int64_t{number<std::int8_t>(what)};
      case GgufValueType::i16: return std::int64_t{number<std::int16_t>(what)};
      case GgufValueType::i32: return std::int64_t{number<std::int32_t>(what)};
      case GgufValueType::i64: return number<std::int64_t>(what);
      case GgufValueType::f32: return static_cast<double>(number<float>(what));
      case GgufValueType::f64: return number<double>(what);
      case GgufValueType::boolean: {
        const auto value = number<std::uint8_t>(what);
        if (value > 1) refuse(what + ": is the truth value " + std::to_string(value) + ", expected 0 or 1");
        return value == 1;
      }
      case GgufValueType::string: return string(what, kHeadBytesMax);
      case GgufValueType::array: refuse(what + ": is an array of arrays, which is not supported");
    }
    refuse(what + ": has the value type " + std::to_string(type) + ", which is not known");
  }

  /// Reads the elements one by one, as scalars, so that every element is checked like any other value. Whole
  /// numbers of all widths share one vector; u64 values above 2^63 keep their bits and change their sign,
  /// which no key that is read here can have.
  GgufValue array(const std::string& what) {
    const auto type = number<std::uint32_t>(what);
    const auto count = number<std::uint64_t>(what);
    require_count(count, type == static_cast<std::uint32_t>(GgufValueType::string) ? 8 : 1,
                  "elements of " + what);
    std::vector<std::int64_t> whole;
    std::vector<double> floats;
    std::vector<std::string> strings;
    for (std::uint64_t i = 0; i < count; ++i) {
      GgufValue value = scalar(type, what);
      if (auto* text = std::get_if<std::string>(&value)) {
        strings.push_back(std::move(*text));
      } else if (const auto* real = std::get_if<double>(&value)) {
        floats.push_back(*real);
      } else if (const auto* is_signed = std::get_if<std::int64_t>(&value)) {
        whole.push_back(*is_signed);
      } else if (const auto* truth = std::get_if<bool>(&value)) {
        whole.push_back(*truth ? 1 : 0);
      } else {
        whole.push_back(std::bit_cast<std::int64_t>(std::get<std::uint64_t>(value)));
      }
    }
    if (!strings.empty()) return strings;
    if (!floats.empty()) return floats;
    return whole;
  }

  void read_alignment(const GgufPairs& pairs) {
    const auto found = pairs.find("general.alignment");
    if (found == pairs.end()) return;
    const auto* value = std::get_if<std::uint64_t>(&found->second);
    if (value == nullptr || !std::has_single_bit(*value) || *value > 1u << 20)
      refuse("key 'general.alignment': expected a power of two up to 1048576");
    alignment_ = *value;
  }

  CheckpointTensor read_tensor(std::uint64_t index) {
    CheckpointTensor tensor;
    tensor.name = string("name of tensor " + std::to_string(index), kNameBytesMax);
    const std::string what = "tensor '" + base::to_printable(tensor.name) + "'";
    if (tensor.name.empty() || base::to_printable(tensor.name) != tensor.name)
      refuse(what + ": is not a proper name");
    const auto axes = number<std::uint32_t>(what);
    if (axes > kAxesMax) refuse(what + ": has " + std::to_string(axes) + " axes, at most 4 are allowed");
    for (std::uint32_t axis = 0; axis < axes; ++axis) tensor.shape.push_back(number<std::uint64_t>(what));
    // GGUF lists the innermost axis first.
    std::ranges::reverse(tensor.shape);
    const auto type = number<std::uint32_t>(what);
    const auto known = std::ranges::find(kTypes, static_cast<GgufTensorType>(type), &KnownType::type);
    if (known == kTypes.end())
      refuse(what + ": has the type " + std::to_string(type) +
             ", supported are F32, F16, BF16, Q8_0 and Q4_0 (0, 1, 30, 8, 2)");
    tensor.dtype = known->dtype;
    tensor.offset_bytes = number<std::uint64_t>(what);
    const auto count = element_count(tensor.shape);
    // No supported type takes more than 4 bytes a weight, so stored_bytes() below cannot overflow.
    const auto bytes = count ? base::checked_mul(*count, 4) : std::nullopt;
    if (!bytes || *count == 0) refuse(what + ": has the impossible shape " + to_string(tensor.shape));
    if (block_weights(tensor.dtype) > 1 &&
        (tensor.shape.empty() || tensor.shape.back() % block_weights(tensor.dtype) != 0)) {
      refuse(what + ": rows of " + to_string(tensor.shape) + " are no whole blocks of 32");
    }
    tensor.extent_bytes = stored_bytes(tensor.dtype, *count);
    tensor.strides.assign(tensor.shape.size(), 1);
    for (std::size_t axis = tensor.shape.size(); axis-- > 1;)
      tensor.strides[axis - 1] = tensor.strides[axis] * tensor.shape[axis];
    return tensor;
  }

  /// Checks that tensors follow one another, each padded to the alignment, and that nothing follows the last
  /// one.
  void place_tensors(std::vector<CheckpointTensor>& tensors, std::uint64_t start) const {
    std::ranges::sort(tensors, {}, &CheckpointTensor::offset_bytes);
    std::uint64_t expected = 0;
    std::uint64_t end = 0;
    for (CheckpointTensor& tensor : tensors) {
      const std::string what = "tensor '" + tensor.name + "'";
      if (tensor.offset_bytes != expected)
        refuse(what + ": begins at byte " + std::to_string(tensor.offset_bytes) + " of the data, expected " +
               std::to_string(expected));
      // The true size of a damaged file is not known; its bound only prevents overflow.
      const std::uint64_t room = whole_ ? file_bytes_ - std::min(start, file_bytes_) : kDataBytesMax;
      if (tensor.offset_bytes > room || tensor.extent_bytes > room - tensor.offset_bytes)
        refuse(what + ": ends beyond the end of the file");
      end = start + tensor.offset_bytes + tensor.extent_bytes;
      expected = base::align_up(tensor.offset_bytes + tensor.extent_bytes, alignment_);
      tensor.offset_bytes += start;
    }
    // Writers differ in whether they pad behind the last tensor; anything else there is refused.
    if (whole_ && !tensors.empty() && file_bytes_ != end && file_bytes_ != start + expected)
      refuse("has " + std::to_string(file_bytes_ - end) + " bytes behind its last tensor");
    std::ranges::sort(tensors, {}, &CheckpointTensor::name);
    const auto twice = std::ranges::adjacent_find(tensors, {}, &CheckpointTensor::name);
    if (twice != tensors.end()) refuse("tensor '" + twice->name + "': occurs twice");
  }

  base::File file_;
  std::string subject_;
  std::uint64_t file_bytes_;
  bool whole_;  // the tensors must end where the file ends
  std::vector<std::byte> head_;
  std::uint64_t at_ = 0;
  std::uint64_t alignment_ = kGgufAlignmentBytes;
};

}  // namespace

CheckpointIndex open_gguf(const std::filesystem::path& path) {
  return GgufReader(path, /*whole=*/true).read().checkpoint;
}

DamagedGguf read_damaged_gguf(const std::filesystem::path& path) {
  return GgufReader(path, /*whole=*/false).read();
}

}  // namespace sluice::format
