// Reads and writes lists of checksums: SHA256SUMS, md5sum's lists, RELEASE texts. Such a list has no grammar,
// so every line is searched for a digest of 32 or 64 hex digits that two spaces, or a space and '*', separate
// from a file name (GNU coreutils, "md5sum invocation"); other lines are ignored.

#include <algorithm>

#include "base/ascii.h"
#include "base/error.h"
#include "format/manifest.h"
#include "format/release_layout.h"

namespace sluice::format {
namespace {

bool is_hex(char c) { return base::hex_value(c) >= 0; }

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

struct SumLine {
  std::string_view hex;
  std::string path;
};

/// The first digest of a line and the file name after it.
std::optional<SumLine> find_sum(std::string_view line) {
  // Word by word: a digest must stand alone, not inside of a longer run of letters and digits.
  for (std::size_t start = 0; start < line.size();) {
    if (!base::is_alphanumeric(line[start])) {
      ++start;
      continue;
    }
    const auto word_end = std::ranges::find_if_not(line.substr(start), base::is_alphanumeric) - line.begin();
    const auto end = static_cast<std::size_t>(word_end);
    const std::string_view word = line.substr(start, end - start);
    const std::string_view after = line.substr(end);
    const bool digest = (word.size() == 32 || word.size() == 64) && std::ranges::all_of(word, is_hex);
    if (digest && (after.starts_with("  ") || after.starts_with(" *"))) {
      // The name in a list ends with the line. Within other text, as in RELEASE files, it ends at a blank.
      std::string_view path = after.substr(2);
      const bool list = start == 0 || (start == 1 && line.front() == '\\');
      if (!list) path = path.substr(0, path.find_first_of(" \t"));
      if (path.starts_with("./")) path.remove_prefix(2);
      if (path.empty()) return std::nullopt;
      const bool has_escapes = start == 1 && line.front() == '\\';
      return SumLine{word, has_escapes ? unescaped(path) : std::string(path)};
    }
    start = end;
  }
  return std::nullopt;
}

template <typename D>
void set_sum(std::optional<D>& digest, const SumLine& line, std::string_view subject) {
  const auto stated = base::parse_digest<D>(line.hex);
  // A line may occur twice, a contradiction may not.
  if (digest && digest != stated)
    base::throw_malformed(subject, "has two different digests for '" + std::string(line.path) + "'");
  digest = stated;
}

}  // namespace

/// Applies the rules for release paths, apart from the characters that such a list can escape.
void check_listed_path(std::string_view path, std::string_view subject) {
  std::string plain(path);
  for (char& c : plain)
    if (c == '\\' || c == '\n' || c == '\r') c = '_';
  check_release_path(plain, subject);
}

std::vector<ManifestFile> parse_sums(std::string_view text) {
  constexpr std::string_view kSubject = "checksum list";
  std::vector<ManifestFile> files;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto sum = find_sum(line);
    if (!sum) continue;
    // An escaped name may contain characters that are otherwise refused, because the list has stated them
    // openly.
    if (line.starts_with('\\')) {
      check_listed_path(sum->path, kSubject);
    } else {
      check_release_path(sum->path, kSubject);
    }
    auto file = std::ranges::find(files, sum->path, &ManifestFile::path);
    if (file == files.end()) {
      files.emplace_back().path = sum->path;
      file = std::prev(files.end());
    }
    if (sum->hex.size() == 2 * base::Md5::kBytes) {
      set_sum(file->md5, *sum, kSubject);
    } else {
      set_sum(file->sha256, *sum, kSubject);
    }
  }
  return files;
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
