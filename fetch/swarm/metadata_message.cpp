#include "fetch/swarm/metadata_message.h"

#include <charconv>

namespace sluice::fetch {
namespace {

constexpr unsigned kDepthMax = 16;  // BEP 9 needs one level

/// Reads bencode from front to back. Each function consumes what it returns, and returns nothing when the
/// text has another form.
class BencodeCursor {
 public:
  explicit BencodeCursor(std::string_view text) : rest_(text) {}

  [[nodiscard]] std::string_view rest() const { return rest_; }

  bool take(char wanted) {
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  std::optional<std::int64_t> integer() {
    if (!take('i')) return std::nullopt;
    const auto value = number<std::int64_t>();
    return value && take('e') ? value : std::nullopt;
  }

  std::optional<std::string_view> string() {
    const auto length = number<std::size_t>();
    if (!length || !take(':') || *length > rest_.size()) return std::nullopt;
    const std::string_view value = rest_.substr(0, *length);
    rest_.remove_prefix(*length);
    return value;
  }

  /// Skips a value of any type.
  bool skip(unsigned depth = 0) {
    if (rest_.empty() || depth > kDepthMax) return false;
    if (rest_.front() == 'i') return integer().has_value();
    const bool dictionary = rest_.front() == 'd';
    if (!dictionary && rest_.front() != 'l') return string().has_value();
    rest_.remove_prefix(1);
    while (!take('e')) {
      if (dictionary && !string()) return false;
      if (!skip(depth + 1)) return false;
    }
    return true;
  }

 private:
  template <typename Number>
  std::optional<Number> number() {
    Number value{};
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc()) return std::nullopt;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }

  std::string_view rest_;
};

MetadataMessage::Kind to_kind(std::int64_t number) {
  if (number < 0 || number > 2) return MetadataMessage::Kind::unknown;
  return static_cast<MetadataMessage::Kind>(number);
}

}  // namespace

std::optional<MetadataMessage> parse_metadata_message(std::string_view text) {
  BencodeCursor cursor(text);
  if (!cursor.take('d')) return std::nullopt;
  std::optional<std::int64_t> kind;
  std::optional<std::int64_t> block;
  while (!cursor.take('e')) {
    const auto key = cursor.string();
    if (!key) return std::nullopt;
    if (*key == "msg_type" || *key == "piece") {
      const auto value = cursor.integer();
      if (!value) return std::nullopt;
      (*key == "piece" ? block : kind) = value;
    } else if (!cursor.skip()) {
      return std::nullopt;
    }
  }
  if (!kind || !block || *block < 0) return std::nullopt;
  return MetadataMessage{to_kind(*kind), static_cast<std::uint64_t>(*block), cursor.rest()};
}

}  // namespace sluice::fetch
