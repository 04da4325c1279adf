#include "library/list_names.h"

#include <algorithm>
#include <array>

#include "base/ascii.h"

namespace sluice::library {
namespace {

constexpr std::array<std::string_view, 5> kAlgorithms{"sha256", "md5", "sha1", "sha512", "sha384"};
constexpr std::array<std::string_view, 6> kPlain{"checksum", "checksums", "hash",
                                                 "hashes",   "digest",    "digests"};

/// "sha256", "sha256sum" and "sha256sums"; "checksums" and its like.
bool is_list_word(std::string_view word) {
  if (std::ranges::find(kPlain, word) != kPlain.end()) return true;
  if (word.ends_with("sums"))
    word.remove_suffix(4);
  else if (word.ends_with("sum"))
    word.remove_suffix(3);
  return std::ranges::find(kAlgorithms, word) != kAlgorithms.end();
}

/// Where the word that makes it a list begins in the name; npos when it is no list.
std::size_t find_list_word(std::string_view file_name) {
  std::string lower = base::to_lower(file_name);
  if (lower.ends_with(".txt")) lower.resize(lower.size() - 4);
  if (is_list_word(lower)) return 0;
  const std::size_t separator = lower.find_last_of(".-_");
  if (separator == std::string::npos || separator == 0) return std::string::npos;
  return is_list_word(std::string_view(lower).substr(separator + 1)) ? separator + 1 : std::string::npos;
}

}  // namespace

bool is_list_name(std::string_view file_name) {
  return file_name == "RELEASE" || find_list_word(file_name) != std::string::npos;
}

std::string listed_name(std::string_view file_name) {
  const std::size_t word = find_list_word(file_name);
  return word == std::string::npos || word == 0 ? std::string() : std::string(file_name.substr(0, word - 1));
}

}  // namespace sluice::library
