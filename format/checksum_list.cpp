// Reads and writes lists of checksums. Such a list has no common grammar, so it is read line by line in the
// dialects that tools write:
//
//   HEX  NAME, HEX *NAME, HEX NAME         sha256sum, md5sum, shasum (GNU coreutils, "md5sum invocation")
//   SHA256 (NAME) = HEX                    sha256sum --tag, BSD's sha256
//   SHA2-256(NAME)= HEX                    openssl dgst
//   HEX                                    a list of one file, which the list's own name tells
//   any text HEX  NAME any text            RELEASE texts, whose lines have a frame
//
// The text may be UTF-8 or UTF-16 (PowerShell's > writes that), with any line ends. Other lines are ignored.
// Digests of other kinds than MD5 and SHA-256 are recognised, so that a caller can say that they are not
// compared.

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/ascii.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "format/manifest.h"
#include "format/release_layout.h"

namespace sluice::format {
namespace {

constexpr std::string_view kBlanks = " \t";
constexpr std::size_t kLinesBetweenStops = 4096;

bool is_hex(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return base::hex_value(c) >= 0; });
}

// sha256sum escapes names that need it, and marks such lines with a backslash at their start.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    const bool escape = text[i] == '\\' && (next == '\\' || next == 'n' || next == 'r');
    plain += !escape ? text[i] : next == 'n' ? '\n' : next == 'r' ? '\r' : '\\';
    i += escape;
  }
  return plain;
}

std::string escaped(std::string_view path) {
  std::string text;
  for (const char c : path) {
    if (c == '\\')
      text += "\\\\";
    else if (c == '\n')
      text += "\\n";
    else if (c == '\r')
      text += "\\r";
    else
      text += c;
  }
  return text;
}

// ---- Encodings ----

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr std::array<unsigned, 4> kFirst{0, 0xC0, 0xE0, 0xF0};
  out += static_cast<char>(kFirst[static_cast<std::size_t>(more)] | c >> (6 * more));
  for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (c >> (6 * i) & 0x3F));
}

/// Error{malformed} for a surrogate without its pair (Unicode 15, D91) and for an odd number of bytes.
std::string utf16_to_utf8(std::string_view text, bool big_endian, std::string_view subject) {
  const auto unit = [&](std::size_t at) -> char32_t {
    const auto low = static_cast<unsigned char>(text[at + (big_endian ? 1 : 0)]);
    const auto high = static_cast<unsigned char>(text[at + (big_endian ? 0 : 1)]);
    return static_cast<char32_t>(high << 8 | low);
  };
  if (text.size() % 2 != 0) base::throw_malformed(subject, "is UTF-16 and ends within a character");
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += 2) {
    char32_t c = unit(at);
    if (c >= 0xD800 && c < 0xE000) {
      const char32_t second = c < 0xDC00 && at + 2 < text.size() ? unit(at + 2) : 0;
      if (second < 0xDC00 || second >= 0xE000)
        base::throw_malformed(subject, "is UTF-16 with half a character at byte " + std::to_string(at));
      c = 0x10000 + ((c - 0xD800) << 10) + (second - 0xDC00);
      at += 2;
    }
    append_utf8(out, c);
  }
  return out;
}

/// The text in UTF-8 without a byte order mark. `converted` keeps the result when it is another text.
std::string_view to_utf8(std::string_view text, std::string& converted, std::string_view subject) {
  using namespace std::string_view_literals;
  if (text.starts_with("\xEF\xBB\xBF")) return text.substr(3);
  const bool little = text.starts_with("\xFF\xFE"sv);
  const bool big = text.starts_with("\xFE\xFF"sv);
  if (little || big) return converted = utf16_to_utf8(text.substr(2), big, subject);
  // Some tools leave the mark out. No text in UTF-8 has a zero byte, and a list begins with ASCII.
  if (text.size() >= 2 && text[0] != '\0' && text[1] == '\0')
    return converted = utf16_to_utf8(text, false, subject);
  if (text.size() >= 2 && text[0] == '\0' && text[1] != '\0')
    return converted = utf16_to_utf8(text, true, subject);
  return text;
}

// ---- Lines ----

/// What a line says; `algorithm` is empty when the length of the digest has to tell it.
struct SumLine {
  std::string_view hex;
  std::string_view algorithm;
  std::string_view name;
  bool escapes = false;
};

/// The kind of digest that has so many hexadecimal digits, when no name tells it.
std::string_view algorithm_of(std::size_t digits) {
  switch (digits) {
    case 2 * base::Md5::kBytes: return "MD5";
    case 2 * base::Sha1::kBytes: return "SHA-1";
    case 56: return "SHA-224";
    case 2 * base::Sha256::kBytes: return "SHA-256";
    case 96: return "SHA-384";
    case 128: return "SHA-512";
    default: return {};
  }
}

/// Tools spell SHA-256 as SHA256, sha256, SHA2-256 and SHA-256.
std::string normal_algorithm(std::string_view spelled) {
  const std::string lower = base::to_lower(spelled);
  for (const auto& [name, spellings] : {std::pair{"MD5", std::array{"md5", "md5", "md5"}},
                                        std::pair{"SHA-1", std::array{"sha1", "sha-1", "sha1"}},
                                        std::pair{"SHA-224", std::array{"sha224", "sha-224", "sha2-224"}},
                                        std::pair{"SHA-256", std::array{"sha256", "sha-256", "sha2-256"}},
                                        std::pair{"SHA-384", std::array{"sha384", "sha-384", "sha2-384"}},
                                        std::pair{"SHA-512", std::array{"sha512", "sha-512", "sha2-512"}}})
    if (std::ranges::find(spellings, lower) != spellings.end()) return name;
  return std::string(spelled);
}

std::string_view without_blanks_in_front(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kBlanks), text.size()));
}

/// "SHA256 (NAME) = HEX", with or without the blanks.
std::optional<SumLine> find_tagged(std::string_view line) {
  const std::size_t open = line.find('(');
  const std::size_t close = line.rfind(')');  // a name may have parentheses, a digest has none
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
  std::string_view tag = line.substr(0, open);
  while (tag.ends_with(' ')) tag.remove_suffix(1);
  std::string_view hex = without_blanks_in_front(line.substr(close + 1));
  if (tag.empty() || tag.find_first_of(kBlanks) != std::string_view::npos || !hex.starts_with('='))
    return std::nullopt;
  hex = without_blanks_in_front(hex.substr(1));
  while (hex.ends_with(' ')) hex.remove_suffix(1);
  if (!is_hex(hex)) return std::nullopt;
  return SumLine{hex, tag, line.substr(open + 1, close - open - 1)};
}

/// "HEX  NAME", "HEX *NAME", "HEX NAME", or "HEX" alone.
std::optional<SumLine> find_leading(std::string_view line) {
  const std::string_view hex = line.substr(0, line.find_first_of(kBlanks));
  if (!is_hex(hex) || algorithm_of(hex.size()).empty()) return std::nullopt;
  std::string_view name = line.substr(hex.size());
  // One blank, then the mark of the mode: '*' for binary and a second blank for text. With one blank alone
  // the name follows at once.
  if (!name.empty()) name.remove_prefix(1);
  if (name.starts_with(' ') || name.starts_with('*')) name.remove_prefix(1);
  return SumLine{hex, {}, name};
}

/// A digest within other text, as in RELEASE files: a word of its own, and two signs before the name.
std::optional<SumLine> find_framed(std::string_view line) {
  for (std::size_t start = 0; start < line.size();) {
    if (!base::is_alphanumeric(line[start])) {
      ++start;
      continue;
    }
    const auto word_end = std::ranges::find_if_not(line.substr(start), base::is_alphanumeric) - line.begin();
    const auto end = static_cast<std::size_t>(word_end);
    const std::string_view word = line.substr(start, end - start);
    const std::string_view after = line.substr(end);
    const bool digest = (word.size() == 32 || word.size() == 64) && is_hex(word);
    if (digest && (after.starts_with("  ") || after.starts_with(" *"))) {
      // The name in a list ends with the line. Within other text it ends at a blank.
      const std::string_view name = after.substr(2);
      return SumLine{word, {}, name.substr(0, name.find_first_of(kBlanks))};
    }
    start = end;
  }
  return std::nullopt;
}

std::optional<SumLine> find_sum(std::string_view line) {
  line = without_blanks_in_front(line);
  if (line.empty() || line.front() == '#' || line.front() == ';') return std::nullopt;
  const bool escapes = line.front() == '\\';
  const std::string_view entry = line.substr(escapes ? 1 : 0);
  auto found = find_leading(entry);
  if (!found) found = find_tagged(entry);
  if (found)
    found->escapes = escapes;
  else
    found = find_framed(line);
  return found;
}

std::string path_of(const SumLine& line) {
  std::string path = line.escapes ? unescaped(line.name) : std::string(line.name);
  // A name with a backslash would have been escaped, so here it separates folders, as on Windows.
  if (!line.escapes) std::ranges::replace(path, '\\', '/');
  while (path.starts_with("./")) path.erase(0, 2);
  return path;
}

template <typename D>
void set_sum(std::optional<D>& digest, std::string_view hex, const std::string& path,
             std::string_view subject) {
  const auto stated = base::parse_digest<D>(hex);
  // A line may occur twice, a contradiction may not.
  if (digest && digest != stated)
    base::throw_malformed(subject, "has two different digests for '" + path + "'");
  digest = stated;
}

/// Collects the entries; a name is looked up in constant time, since a list may have a million lines.
class ListBuilder {
 public:
  ListBuilder(std::string_view subject, std::string_view own_file) : subject_(subject), own_file_(own_file) {}

  void add(const SumLine& line) {
    std::string path = path_of(line);
    // sha256sum calls its standard input "-".
    if (path.empty() || path == "-") path = own_file_;
    if (path.empty()) return;
    // PowerShell's Get-FileHash prints the way from the drive on.
    if (path.size() > 2 && path[1] == ':' && path[2] == '/')
      base::throw_malformed(subject_, "unsafe file name '" + base::to_printable(path) + "': is absolute");
    // An escaped name may contain characters that are otherwise refused, because the list has stated them
    // openly.
    if (line.escapes)
      check_listed_path(path, subject_);
    else
      check_release_path(path, subject_);
    const std::string_view by_length = algorithm_of(line.hex.size());
    const std::string algorithm =
        line.algorithm.empty() ? std::string(by_length) : normal_algorithm(line.algorithm);
    const bool compared = (algorithm == "MD5" || algorithm == "SHA-256") && algorithm == by_length;
    if (!compared) {
      list_.not_compared.push_back({algorithm, std::move(path)});
      return;
    }
    ManifestFile& file = find_or_add(path);
    if (algorithm == "MD5")
      set_sum(file.md5, line.hex, path, subject_);
    else
      set_sum(file.sha256, line.hex, path, subject_);
  }

  [[nodiscard]] ChecksumList take() { return std::move(list_); }

 private:
  ManifestFile& find_or_add(const std::string& path) {
    const auto [known, added] = index_.try_emplace(path, list_.files.size());
    if (added) list_.files.emplace_back().path = path;
    return list_.files[known->second];
  }

  std::string_view subject_;
  std::string_view own_file_;
  ChecksumList list_;
  std::unordered_map<std::string, std::size_t> index_;
};

}  // namespace

/// Applies the rules for release paths, apart from the characters that such a list can escape.
void check_listed_path(std::string_view path, std::string_view subject) {
  std::string plain(path);
  for (char& c : plain)
    if (c == '\\' || c == '\n' || c == '\r') c = '_';
  check_release_path(plain, subject);
}

ChecksumList parse_sums(std::string_view text, std::string_view subject, std::string_view own_file,
                        const std::stop_token& stop) {
  std::string converted;
  text = to_utf8(text, converted, subject);
  ListBuilder builder(subject, own_file);
  for (std::size_t count = 0; !text.empty(); ++count) {
    if (count % kLinesBetweenStops == 0 && stop.stop_requested())
      throw base::Error(base::ErrorKind::interrupted, "interrupted");
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (const auto sum = find_sum(line)) builder.add(*sum);
  }
  return builder.take();
}

std::string sums_text(const std::vector<ManifestFile>& files) {
  std::string text;
  for (const ManifestFile& file : files) {
    // sha256sum reads the result, and knows no other digests.
    if (!file.sha256) continue;
    const std::string path = escaped(file.path);
    if (path != file.path) text += '\\';
    text += base::to_hex(*file.sha256) + "  " + path + '\n';
  }
  return text;
}

}  // namespace sluice::format
