// Reads the header of a safetensors file (format: huggingface/safetensors, README, "Format"): 8 bytes with
// the header's length, the header in JSON, then the data of all tensors without gaps.
//
// The header comes from strangers and may have 100 MB, so it is parsed event by event: HeaderReader keeps the
// tensors and a small state (Place), and refuses the first event that does not fit. A document tree would
// take many times the header's size before anything could be refused. Then check_tiling() checks that the
// tensors fill the data exactly, as the format demands: a gap could hide a second file, and an overlap would
// give two names to one byte. All arithmetic is checked for overflow. Runs on the caller's thread.

#include "format/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/checkpoint_kind.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;
using base::checked_add;
using base::checked_mul;

// Far above any release; this bounds the memory that a hostile header of 100 MB can cost.
constexpr std::size_t kTensorsMax = 1u << 19;
constexpr std::size_t kAxesMax = 16;
constexpr std::size_t kNameBytesMax = 512;
constexpr std::size_t kParserMessageBytesMax = 240;

struct KnownDType {
  std::string_view name;
  std::optional<DType> dtype;  ///< nothing for types that are not supported
};

// All types that the format has named so far, so that a message can tell an unsupported type from a misspelt
// one.
constexpr std::array<KnownDType, 22> kDTypes{{
    {"BOOL", DType::boolean},
    {"U8", DType::u8},
    {"I8", DType::i8},
    {"I16", DType::i16},
    {"I32", DType::i32},
    {"I64", DType::i64},
    {"F16", DType::f16},
    {"BF16", DType::bf16},
    {"F32", DType::f32},
    {"F64", DType::f64},
    {"F8_E4M3", DType::f8_e4m3},
    {"U16", {}},
    {"U32", {}},
    {"U64", {}},
    {"C64", {}},
    {"F8_E5M2", {}},
    {"F8_E8M0", {}},
    {"F8_E4M3FNUZ", {}},
    {"F8_E5M2FNUZ", {}},
    {"F4", {}},
    {"F6_E2M3", {}},
    {"F6_E3M2", {}},
}};

std::string to_quoted(std::string_view text) { return "'" + base::to_printable(text.substr(0, 80)) + "'"; }

/// Takes the parser's events one by one, so that 100 MB of other JSON cost no memory.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(std::string_view subject, std::uint64_t data_offset_bytes)
      : subject_(subject), data_offset_bytes_(data_offset_bytes) {}

  [[nodiscard]] std::vector<CheckpointTensor> take() { return std::move(tensors_); }

  bool null() override { refuse_value("null"); }
  bool boolean(bool) override { refuse_value("true or false"); }
  bool number_integer(number_integer_t value) override { refuse_value(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { refuse_value(text); }
  bool binary(binary_t&) override { refuse_value("binary data"); }

  // Events of the parser. Each returns true to continue; the refusing functions throw.

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (tensor_.shape.size() == kAxesMax) refuse_tensor("has more than 16 axes");
      // Values may be as large as 2^64 - 1; add_tensor() checks their product.
      tensor_.shape.push_back(value);
    } else if (place_ == Place::offsets) {
      if (offset_count_ == 2) refuse_tensor("has more than two data_offsets");
      offsets_[offset_count_++] = value;
    } else {
      refuse_value(std::to_string(value));
    }
    return true;
  }

  // Values of __metadata__ are free text and are ignored.
  bool string(string_t& value) override {
    if (place_ == Place::metadata) return true;
    if (place_ != Place::tensor || key_ != "dtype") refuse_value("the string " + to_quoted(value));
    const auto known = std::ranges::find(kDTypes, std::string_view(value), &KnownDType::name);
    if (known == kDTypes.end()) refuse_tensor("has the unknown dtype " + to_quoted(value));
    if (!known->dtype) refuse_tensor("has dtype " + value + ", which is not supported");
    tensor_.dtype = *known->dtype;
    return true;
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::start: place_ = Place::header; return true;
      case Place::header:
        place_ = key_ == "__metadata__" ? Place::metadata : Place::tensor;
        keys_.clear();
        return true;
      default: refuse_value("an object");
    }
  }

  // Arrays end in Place::tensor again, so an object can only end as a tensor, the metadata, or the header
  // itself.
  bool end_object() override {
    if (place_ == Place::header) {
      place_ = Place::end;
      return true;
    }
    if (place_ == Place::tensor) add_tensor();
    place_ = Place::header;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::tensor && key_ == "shape") {
      place_ = Place::shape;
    } else if (place_ == Place::tensor && key_ == "data_offsets") {
      place_ = Place::offsets;
    } else {
      refuse_value("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offsets && offset_count_ != 2) refuse_tensor("has fewer than two data_offsets");
    place_ = Place::tensor;
    return true;
  }

  bool key(string_t& value) override {
    // The format forbids equal keys, and not every parser notices them: two readers could then see two files.
    auto& keys = place_ == Place::header ? names_ : keys_;
    if (place_ == Place::tensor && value != "dtype" && value != "shape" && value != "data_offsets")
      refuse_tensor("has the unknown key " + to_quoted(value));
    if (!keys.insert(value).second) refuse("its header has the key " + to_quoted(value) + " twice");
    if (place_ == Place::header && value != "__metadata__") begin_tensor(value);
    key_ = std::move(value);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    std::string_view cause = error.what();
    if (const auto found = cause.find("syntax error"); found != std::string_view::npos)
      cause.remove_prefix(found);
    refuse("its header is not valid JSON: offset " + std::to_string(position) + ": " +
           base::to_printable(cause.substr(0, kParserMessageBytesMax)));
  }

 private:
  /// Where the parser is. start -> header -> metadata or tensor -> header ...; tensor -> shape or offsets ->
  /// tensor; header -> end. Any deeper nesting is refused, so the parser's stack stays small, too.
  enum class Place : std::uint8_t { start, header, metadata, tensor, shape, offsets, end };

  [[noreturn]] void refuse(const std::string& cause) const { base::throw_malformed(subject_, cause); }

  [[noreturn]] void refuse_tensor(const std::string& cause) const {
    refuse("tensor " + to_quoted(tensor_.name) + ": " + cause);
  }

  [[noreturn]] void refuse_value(const std::string& found) const {
    if (place_ == Place::start) refuse("its header is " + found + ", expected an object");
    if (place_ == Place::metadata)
      refuse("__metadata__: key " + to_quoted(key_) + ": expected a string, found " + found);
    if (place_ == Place::header) refuse("tensor " + to_quoted(key_) + ": expected an object, found " + found);
    refuse_tensor("key " + to_quoted(key_) + ": expected " +
                  (key_ == "dtype" ? "a string" : "an array of whole numbers") + ", found " + found);
  }

  void begin_tensor(const std::string& name) {
    if (tensors_.size() == kTensorsMax) refuse("names more than " + std::to_string(kTensorsMax) + " tensors");
    tensor_ = {};
    tensor_.name = name;
    offset_count_ = 0;
    if (name.empty() || name.size() > kNameBytesMax || base::to_printable(name) != name)
      refuse_tensor("is not a proper name");
  }

  /// Completes the tensor whose object has ended. Whether tensors overlap is checked later, for all of them
  /// together.
  void add_tensor() {
    for (const char* needed : {"dtype", "shape", "data_offsets"})
      if (!keys_.contains(needed)) refuse_tensor("key '" + std::string(needed) + "' is missing");
    const auto [begin, end] = offsets_;
    if (end < begin) {
      refuse_tensor("ends at " + std::to_string(end) + " before it begins at " + std::to_string(begin));
    }
    // data_offsets and shape x dtype state the length twice, and must agree.
    const auto count = element_count(tensor_.shape);
    const auto bytes = count ? checked_mul(*count, size_bytes(tensor_.dtype)) : std::nullopt;
    if (!bytes) refuse_tensor("shape " + to_string(tensor_.shape) + " is too large");
    if (end - begin != *bytes) {
      refuse_tensor("has " + std::to_string(end - begin) + " bytes, its shape " + to_string(tensor_.shape) +
                    " of " + std::string(to_string(tensor_.dtype)) + " asks for " + std::to_string(*bytes));
    }
    const auto offset = checked_add(data_offset_bytes_, begin);
    if (!offset || !checked_add(*offset, *bytes)) refuse_tensor("lies beyond what a file can have");
    tensor_.offset_bytes = *offset;
    tensor_.extent_bytes = *bytes;
    tensor_.strides.resize(tensor_.shape.size());
    std::uint64_t stride = 1;
    for (std::size_t axis = tensor_.shape.size(); axis-- > 0;) {
      tensor_.strides[axis] = stride;
      stride *= tensor_.shape[axis];
    }
    tensors_.push_back(std::move(tensor_));
  }

  std::string_view subject_;
  std::uint64_t data_offset_bytes_;
  Place place_ = Place::start;
  std::string key_;
  std::unordered_set<std::string> names_;  ///< keys of the header
  std::unordered_set<std::string> keys_;   ///< keys of the current object
  CheckpointTensor tensor_;
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t offset_count_ = 0;
  std::vector<CheckpointTensor> tensors_;
};

/// Checks that each tensor begins where the previous one ends, and that the last one ends with the file.
void check_tiling(std::vector<CheckpointTensor>& tensors, std::uint64_t data_offset_bytes,
                  std::optional<std::uint64_t> file_bytes, std::string_view subject) {
  // An empty tensor sorts before the tensor that begins at the same offset.
  std::ranges::sort(tensors, [](const CheckpointTensor& a, const CheckpointTensor& b) {
    return std::pair(a.offset_bytes, a.extent_bytes) < std::pair(b.offset_bytes, b.extent_bytes);
  });
  std::uint64_t at = data_offset_bytes;
  for (const CheckpointTensor& tensor : tensors) {
    if (tensor.offset_bytes != at) {
      base::throw_malformed(
          subject, "tensor " + to_quoted(tensor.name) + ": begins at byte " +
                       std::to_string(tensor.offset_bytes - data_offset_bytes) + " of the data, expected " +
                       std::to_string(at - data_offset_bytes) +
                       (tensor.offset_bytes < at ? ": it overlaps another" : ": there is a gap"));
    }
    at += tensor.extent_bytes;
  }
  if (!file_bytes || at == *file_bytes) return;
  base::throw_malformed(
      subject, "has " + std::to_string(*file_bytes) + " bytes, its tensors end at " + std::to_string(at) +
                   (at < *file_bytes ? ": there is something behind them" : ": it is cut short"));
}

struct Header {
  std::string text;
  std::uint64_t file_bytes = 0;
};

/// Reads the header into memory after checking its length against the limit and the size of the file. Files
/// that only have the name of a safetensors file get a message that says what they are.
Header read_header(const fs::path& path) {
  const base::File file = base::File::open_read(path);
  const std::string subject = path.string();
  Header header;
  header.file_bytes = file.size_bytes();
  const std::string head = read_head(file);
  if (head.empty()) base::throw_malformed(subject, "is empty");
  // A header that merely looks wrong is left to the checks below, whose messages are more exact.
  if (!looks_like_safetensors(head)) {
    if (is_zip(head)) base::throw_malformed(subject, "is a zip file, not a safetensors file");
    if (const auto what = describe_lookalike(head); !what.empty()) base::throw_malformed(subject, what);
  }
  if (head.size() < sizeof(std::uint64_t)) {
    base::throw_malformed(subject, "is no safetensors file: it has " + std::to_string(head.size()) +
                                       " bytes, the length of the header alone takes 8");
  }
  const auto header_bytes = base::load_le<std::uint64_t>(base::as_bytes(head));
  const auto data_offset = safetensors_data_offset(header_bytes);
  if (!data_offset) {
    base::throw_malformed(subject, "says that its header has " + std::to_string(header_bytes) +
                                       " bytes, at most " + std::to_string(kSafetensorsHeaderBytesMax) +
                                       " are allowed");
  }
  if (*data_offset > header.file_bytes) {
    base::throw_malformed(subject, "says that its header has " + std::to_string(header_bytes) +
                                       " bytes, but there are only " +
                                       std::to_string(header.file_bytes - sizeof(std::uint64_t)));
  }
  header.text.resize(header_bytes);
  file.read_exact_at(sizeof(std::uint64_t),
                     {reinterpret_cast<std::byte*>(header.text.data()), header.text.size()});
  return header;
}

}  // namespace

std::optional<std::uint64_t> safetensors_data_offset(std::uint64_t header_bytes) {
  if (header_bytes > kSafetensorsHeaderBytesMax) return std::nullopt;
  return sizeof(std::uint64_t) + header_bytes;
}

CheckpointIndex parse_safetensors(std::string_view header, std::optional<std::uint64_t> file_bytes,
                                  const fs::path& path) {
  const std::string subject = path.string();
  if (!base::is_utf8(header)) base::throw_malformed(subject, "its header is not UTF-8");
  // The parser takes a NUL for the end of the text, whatever follows it.
  if (header.find('\0') != std::string_view::npos)
    base::throw_malformed(subject, "its header has a NUL byte");
  const std::size_t first = header.find_first_not_of(" \t\r\n");
  // The parser would also skip a byte order mark.
  if (first == std::string_view::npos || header[first] != '{')
    base::throw_malformed(subject, "its header does not begin with '{'");
  // data_offsets count from here, not from the start of the file.
  const std::uint64_t data_offset_bytes = sizeof(std::uint64_t) + header.size();
  HeaderReader reader(subject, data_offset_bytes);
  // The parser is strict: after the object only white space may follow, with which writers pad the header to
  // 8 bytes.
  static_cast<void>(nlohmann::json::sax_parse(header.begin(), header.end(), &reader));
  CheckpointIndex index;
  index.kind = CheckpointKind::safetensors;
  index.files.push_back(path);
  index.tensors = reader.take();
  check_tiling(index.tensors, data_offset_bytes, file_bytes, subject);
  std::ranges::sort(index.tensors, {}, &CheckpointTensor::name);
  return index;
}

CheckpointIndex open_safetensors(const fs::path& path) {
  const Header header = read_header(path);
  return parse_safetensors(header.text, header.file_bytes, path);
}

CheckpointIndex read_damaged_safetensors(const fs::path& path) {
  return parse_safetensors(read_header(path).text, std::nullopt, path);
}

}  // namespace sluice::format
