// A cursor over the canonical text of tensors and experts. It accepts the exact bytes that to_text() writes
// and nothing else, so it knows no blanks, no other order of keys and no escapes; everything that it does not
// accept goes to the JSON parser, which then decides. For texts that it accepts both give the same values.

#include "format/container_entries.h"

#include <charconv>
#include <utility>

namespace sluice::format {
namespace {

constexpr std::string_view kTensorsKey = ",\"tensors\":[";
constexpr std::string_view kExpertsKey = ",\"experts\":[";
// About as long as a tensor and its share of an expert are in the text.
constexpr std::size_t kTensorTextBytes = 384;

/// Reads one item after the other. The first one that is not there makes `failed` true for good.
class Cursor final {
 public:
  explicit Cursor(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] const char* place() const { return at_; }

  [[nodiscard]] bool next_is(char c) const { return at_ < end_ && *at_ == c; }

  void expect(std::string_view text) {
    if (!std::string_view(at_, end_).starts_with(text)) return fail();
    at_ += text.size();
  }

  /// Characters up to the next quotation mark, which is skipped.
  std::string_view text() {
    const char* const begin = at_;
    while (at_ < end_ && *at_ != '"') {
      if (*at_ < 0x20 || *at_ > 0x7E || *at_ == '\\') return fail(), std::string_view();
      ++at_;
    }
    const std::string_view found(begin, at_);
    expect("\"");
    return found;
  }

  std::uint64_t number() {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(at_, end_, value);
    // JSON has no number with zeros in front.
    if (error != std::errc() || (*at_ == '0' && end != at_ + 1)) return fail(), 0;
    at_ = end;
    return value;
  }

  base::Sha256 digest() {
    base::Sha256 digest;
    const std::size_t digits = 2 * digest.bytes.size();
    if (static_cast<std::size_t>(end_ - at_) <= digits || at_[digits] != '"' ||
        !base::from_hex(std::string_view(at_, digits), digest.bytes)) {
      fail();
    } else {
      at_ += digits + 1;
    }
    return digest;
  }

  /// `item` for each element of a list whose opening bracket has been read, up to its closing one.
  template <typename F>
  void list(F item) {
    if (next_is(']')) return expect("]");
    item();
    while (!failed_ && next_is(',')) {
      expect(",");
      item();
    }
    expect("]");
  }

  void fail() { failed_ = true; }

 private:
  const char* at_;
  const char* end_;
  bool failed_ = false;
};

void read_storage(Cursor& cursor, ContainerTensor& tensor) {
  const std::string_view type = cursor.text();
  cursor.expect(",\"layout\":\"");
  const std::string_view layout = cursor.text();
  if (const auto storage = parse_storage(type, layout)) {
    tensor.storage = *storage;
  } else {
    cursor.fail();
  }
}

ContainerTensor read_tensor(Cursor& cursor) {
  ContainerTensor tensor;
  cursor.expect("{\"name\":\"");
  tensor.name = cursor.text();
  cursor.expect(",\"shape\":[");
  tensor.shape.reserve(2);
  cursor.list([&] { tensor.shape.push_back(cursor.number()); });
  cursor.expect(",\"type\":\"");
  read_storage(cursor, tensor);
  cursor.expect(",\"offset\":");
  tensor.offset_bytes = cursor.number();
  cursor.expect(",\"bytes\":");
  tensor.length_bytes = cursor.number();
  cursor.expect(",\"digest\":\"");
  tensor.digest = cursor.digest();
  cursor.expect(",\"source_dtype\":\"");
  if (const auto dtype = parse_dtype(cursor.text())) {
    tensor.source_dtype = *dtype;
  } else {
    cursor.fail();
  }
  cursor.expect(",\"source_digest\":\"");
  tensor.source_digest = cursor.digest();
  cursor.expect("}");
  return tensor;
}

ContainerExpert read_expert(Cursor& cursor) {
  ContainerExpert expert;
  cursor.expect("{\"layer\":");
  expert.layer = cursor.number();
  cursor.expect(",\"expert\":");
  expert.expert = cursor.number();
  cursor.expect(",\"offset\":");
  expert.offset_bytes = cursor.number();
  cursor.expect(",\"bytes\":");
  expert.length_bytes = cursor.number();
  cursor.expect(",\"digest\":\"");
  expert.digest = cursor.digest();
  cursor.expect("}");
  return expert;
}

}  // namespace

std::optional<DirectoryEntries> split_directory(std::string_view text) {
  // A comma in front, since within a string each quotation mark has a backslash in front.
  const std::size_t lists = text.find(kTensorsKey);
  if (lists == std::string_view::npos) return std::nullopt;
  DirectoryEntries entries;
  // About three quarters of the text are tensors.
  entries.tensors.reserve(text.size() / kTensorTextBytes);
  Cursor cursor(text.substr(lists));
  cursor.expect(kTensorsKey);
  cursor.list([&] { entries.tensors.push_back(read_tensor(cursor)); });
  cursor.expect(kExpertsKey);
  cursor.list([&] { entries.experts.push_back(read_expert(cursor)); });
  if (cursor.failed() || !cursor.next_is(',')) return std::nullopt;
  entries.before = std::string(text.substr(0, lists)) + "}";
  entries.after = "{" + std::string(cursor.place() + 1, text.data() + text.size());
  return entries;
}

}  // namespace sluice::format
