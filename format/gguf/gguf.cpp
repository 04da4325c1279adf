// Reads the head of a GGUF file: key-value pairs and the list of tensors (format: ggml-org/ggml,
// docs/gguf.md, versions 2 and 3; version 1 had counts of 32 bits).
//
// The head has no length of its own, so it is read through a window of 1 MiB that follows the parser. take()
// and skip() are the only ways onwards and check each length against the rest of the file; counts are checked
// against the smallest size of their items before anything is allocated for them. Views that take() returns
// are valid until the next call, which may move the window. What is kept of keys, values and tensors is
// counted and limited, and arrays of more elements than any model has are passed over, so memory is bounded
// and time linear in the head. For a damaged file (`whole` false) tensors need not end with the file.
// Everything runs on the caller's thread.

#include "format/gguf/gguf.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/gguf/gguf_format.h"
#include "format/gguf/gguf_types.h"

namespace sluice::format {
namespace {

constexpr std::uint64_t kWindowBytes = 1u << 20;
constexpr std::uint64_t kKeptBytesMax = 128u << 20;  // in memory; 262,000 tokens with merges take 40 MiB
constexpr std::uint64_t kItemBytes = 64;             // of memory management for each pair or tensor
constexpr std::uint64_t kStringBytesMax = 16u << 20;
constexpr std::uint64_t kDataBytesMax = 1ull << 62;  // of a damaged file, whose true size is not known
constexpr std::uint64_t kKeyBytesMax = 65535;        // docs/gguf.md
constexpr std::uint64_t kNameBytesMax = 512;
constexpr std::uint64_t kAxesMax = 4;  // GGML_MAX_DIMS

/// Bytes of an element of an array of numbers; 0 for other types.
std::uint64_t number_bytes(std::uint32_t type) {
  switch (static_cast<GgufValueType>(type)) {
    case GgufValueType::u8:
    case GgufValueType::i8:
    case GgufValueType::boolean: return 1;
    case GgufValueType::u16:
    case GgufValueType::i16: return 2;
    case GgufValueType::u32:
    case GgufValueType::i32:
    case GgufValueType::f32: return 4;
    case GgufValueType::u64:
    case GgufValueType::i64:
    case GgufValueType::f64: return 8;
    case GgufValueType::string:
    case GgufValueType::array: break;
  }
  return 0;
}

class GgufReader final {
 public:
  GgufReader(const std::filesystem::path& path, bool whole)
      : file_(base::File::open_read(path)),
        subject_(path.string()),
        file_bytes_(file_.size_bytes()),
        whole_(whole) {}

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
    // A tensor takes at least 25 bytes (a scalar with a name of one byte), a pair at least 13.
    require_count(tensor_count, 25, "tensors");
    require_count(pair_count, 13, "pairs");
    for (std::uint64_t i = 0; i < pair_count; ++i) read_pair(i, checkpoint.gguf_pairs);
    // The alignment decides where the data begins and how tensors follow one another.
    read_alignment(checkpoint.gguf_pairs);
    checkpoint.kind = CheckpointKind::gguf;
    checkpoint.files = {file_.path()};
    try {
      for (std::uint64_t i = 0; i < tensor_count; ++i) checkpoint.tensors.push_back(read_tensor(i));
    } catch (const base::Error&) {
      // Types that are not read come with architectures that are not, whose name says more.
      require_supported_architecture(checkpoint);
      throw;
    }
    result.data_offset_bytes = base::align_up(at_, alignment_);
    place_tensors(checkpoint.tensors, result.data_offset_bytes);
    return result;
  }

 private:
  [[noreturn]] void refuse(const std::string& cause) const { base::throw_malformed(subject_, cause); }

  void require_bytes(std::uint64_t count, const std::string& what) const {
    if (count > file_bytes_ - at_)
      refuse(what + " at byte " + std::to_string(at_) + ": needs " + std::to_string(count) +
             " bytes, the file has " + std::to_string(file_bytes_ - at_) + " more");
  }

  /// The next bytes of the head.
  base::Bytes take(std::uint64_t count, const std::string& what) {
    require_bytes(count, what);
    if (at_ < window_at_ || at_ + count > window_at_ + window_.size()) {
      window_.resize(static_cast<std::size_t>(std::min(file_bytes_ - at_, std::max(kWindowBytes, count))));
      file_.read_exact_at(at_, window_);
      window_at_ = at_;
    }
    const auto bytes = base::Bytes(window_).subspan(static_cast<std::size_t>(at_ - window_at_),
                                                    static_cast<std::size_t>(count));
    at_ += count;
    return bytes;
  }

  void skip(std::uint64_t count, const std::string& what) {
    require_bytes(count, what);
    at_ += count;
  }

  /// Counts memory that the result takes.
  void keep(std::uint64_t bytes) {
    kept_bytes_ += bytes;
    if (kept_bytes_ > kKeptBytesMax)
      refuse(
          "its keys and tensor names take more than the 128 MiB of memory that Sluice allows for them: "
          "this is a limit of the reader, the file need not be damaged");
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
    keep(sizeof(std::string) + length);
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
    keep(sizeof(GgufPairs::value_type) + kItemBytes);
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
      case GgufValueType::string: return string(what, kStringBytesMax);
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
    // Arrays of arrays are refused with their first element.
    require_count(count, std::max<std::uint64_t>(number_bytes(type), is_string(type) ? 8 : 1),
                  "elements of " + what);
    if (count > kGgufElementsMax) return pass_over(type, count, what);
    keep(count * sizeof(std::int64_t));
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

  static bool is_string(std::uint32_t type) {
    return type == static_cast<std::uint32_t>(GgufValueType::string);
  }

  /// Goes to the end of an array that is too long to be kept. Strings must be walked one by one, because only
  /// their lengths lead from one to the next.
  GgufLongArray pass_over(std::uint32_t type, std::uint64_t count, const std::string& what) {
    if (const std::uint64_t bytes = number_bytes(type); bytes > 0) {
      skip(count * bytes, what);  // require_count() has seen to it that the product fits
    } else if (is_string(type)) {
      for (std::uint64_t i = 0; i < count; ++i) skip(number<std::uint64_t>(what), what);
    } else {
      static_cast<void>(scalar(type, what));  // refuses arrays of arrays and unknown types
    }
    return {count};
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
    keep(sizeof(CheckpointTensor) + kItemBytes);
    const std::string what = "tensor '" + base::to_printable(tensor.name) + "'";
    if (tensor.name.empty() || base::to_printable(tensor.name) != tensor.name)
      refuse(what + ": is not a proper name");
    const auto axes = number<std::uint32_t>(what);
    if (axes > kAxesMax) refuse(what + ": has " + std::to_string(axes) + " axes, at most 4 are allowed");
    for (std::uint32_t axis = 0; axis < axes; ++axis) tensor.shape.push_back(number<std::uint64_t>(what));
    // GGUF lists the innermost axis first.
    std::ranges::reverse(tensor.shape);
    const auto type = number<std::uint32_t>(what);
    const GgufType* known = find_gguf_type(type);
    if (known == nullptr || !known->dtype) refuse(what + ": " + describe_unread_type(type));
    tensor.dtype = *known->dtype;
    tensor.offset_bytes = number<std::uint64_t>(what);
    const auto count = element_count(tensor.shape);
    // No supported type takes more than 4 bytes a weight, so stored_bytes() below cannot overflow.
    const auto bytes = count ? base::checked_mul(*count, 4) : std::nullopt;
    if (!bytes || *count == 0) refuse(what + ": has the impossible shape " + to_string(tensor.shape));
    if (block_weights(tensor.dtype) > 1 &&
        (tensor.shape.empty() || tensor.shape.back() % block_weights(tensor.dtype) != 0)) {
      refuse(what + ": rows of " + to_string(tensor.shape) + " are no whole blocks of " +
             std::to_string(block_weights(tensor.dtype)) + ", as " + std::string(known->name) + " needs");
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
  bool whole_;                     // the tensors must end where the file ends
  std::vector<std::byte> window_;  // bytes of the file from window_at_ on
  std::uint64_t window_at_ = 0;
  std::uint64_t at_ = 0;
  std::uint64_t kept_bytes_ = 0;
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
