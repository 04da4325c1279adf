#pragma once
// Typed access to decoded bencode. A value that is absent, has another type or is out of range is
// Error{malformed}, and the message names the torrent, the place and the key.

#include <cstdint>
#include <libtorrent/bdecode.hpp>
#include <string>
#include <string_view>

#include "base/ascii.h"
#include "base/error.h"

namespace sluice::fetch {

inline std::string_view to_view(lt::string_view text) { return {text.data(), text.size()}; }

inline std::string_view section_of(const lt::bdecode_node& node) {
  const auto section = node.data_section();
  return {section.data(), static_cast<std::size_t>(section.size())};
}

/// A dictionary and its name in error messages.
class Fields {
 public:
  Fields(const lt::bdecode_node& dict, std::string subject) : dict_(dict), subject_(std::move(subject)) {
    if (dict_.type() != lt::bdecode_node::dict_t) base::throw_malformed(subject_, "is not a dictionary");
  }

  [[nodiscard]] const std::string& subject() const { return subject_; }
  [[nodiscard]] const lt::bdecode_node& dict() const { return dict_; }
  [[nodiscard]] bool has(std::string_view key) const { return static_cast<bool>(any(key)); }

  [[nodiscard]] std::string_view string(std::string_view key) const {
    return to_view(typed(key, lt::bdecode_node::string_t, "a string").string_value());
  }
  /// "KEY.utf-8" where the dictionary has it, else `key`. Old programs wrote both; libtorrent prefers the
  /// same one.
  [[nodiscard]] std::string utf8_key(std::string_view key) const {
    std::string twin = std::string(key) + ".utf-8";
    return has(twin) ? twin : std::string(key);
  }
  [[nodiscard]] std::uint64_t number(std::string_view key) const {
    const auto node = typed(key, lt::bdecode_node::int_t, "an integer");
    // int_value() would turn a number that does not fit into 0.
    const std::string_view text =
        section_of(node).substr(1, section_of(node).size() - 2);  // without "i" and "e"
    if (text.starts_with('-')) refuse(key, "is negative: " + std::string(text));
    const auto value = base::parse_integer<std::int64_t>(text);
    if (!value) refuse(key, "does not fit 64 bits: " + std::string(text));
    return static_cast<std::uint64_t>(*value);
  }
  [[nodiscard]] lt::bdecode_node list(std::string_view key) const {
    return typed(key, lt::bdecode_node::list_t, "a list");
  }
  [[nodiscard]] lt::bdecode_node dictionary(std::string_view key) const {
    return typed(key, lt::bdecode_node::dict_t, "a dictionary");
  }

  [[noreturn]] void refuse(std::string_view key, const std::string& why) const {
    base::throw_malformed(subject_, "key '" + std::string(key) + "' " + why);
  }

 private:
  [[nodiscard]] lt::bdecode_node any(std::string_view key) const {
    return dict_.dict_find({key.data(), key.size()});
  }
  [[nodiscard]] lt::bdecode_node typed(std::string_view key, lt::bdecode_node::type_t type,
                                       const std::string& what) const {
    lt::bdecode_node node = any(key);
    if (!node) refuse(key, "is missing");
    if (node.type() != type) refuse(key, "is not " + what);
    return node;
  }

  lt::bdecode_node dict_;
  std::string subject_;
};

}  // namespace sluice::fetch
