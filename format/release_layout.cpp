// The rules for the paths of a release (docs/fetch.md). Torrents and manifests come from strangers, and their
// paths become files on disk and lines on a terminal: a path must stay inside of its folder, must be
// printable, and must name one file only, on every file system that a user may have. All readers of torrents
// and manifests call these functions, so the rules are the same everywhere.

#include "format/release_layout.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "base/unicode.h"

namespace sluice::format {
namespace {

constexpr std::size_t kElementBytesMax = 255;  // NAME_MAX of nearly every file system
constexpr std::size_t kElementsMax = 16;
constexpr std::string_view kOwnFolder = ".sluice";  // where fetch keeps its journal

[[noreturn]] void refuse(std::string_view path, std::string_view subject, std::string_view why) {
  base::throw_malformed(subject, "unsafe file name '" + base::to_printable(path) + "': " + std::string(why));
}

void check_characters(std::string_view path, std::string_view subject) {
  for (std::string_view rest = path; !rest.empty();) {
    const int length = base::utf8_length(rest);
    if (length <= 0) refuse(path, subject, "is not UTF-8");
    const auto character = rest.substr(0, static_cast<std::size_t>(length));
    // Windows would take it for a separator.
    if (character == "\\") refuse(path, subject, "has a backslash");
    if (base::is_deceptive(base::decode_utf8(character))) refuse(path, subject, "has a control character");
    rest.remove_prefix(character.size());
  }
}

void check_element(std::string_view element, std::string_view path, std::string_view subject) {
  if (element.empty()) refuse(path, subject, "has an empty element");
  if (element == "." || element == "..")
    refuse(path, subject, "has the element '" + std::string(element) + "'");
  if (element.size() > kElementBytesMax) {
    refuse(path, subject,
           "has an element of " + std::to_string(element.size()) + " bytes, expected at most " +
               std::to_string(kElementBytesMax));
  }
}

/// A path, and its form on file systems that ignore case.
struct FoldedPath {
  std::string key;
  const std::string* path = nullptr;
};

FoldedPath fold(const std::string& path, std::string_view subject) {
  auto folded = base::fold_case(path);
  if (!folded) refuse(path, subject, "is not UTF-8");
  FoldedPath folded_path{std::move(*folded), &path};
  const std::string& key = folded_path.key;
  // Compared after folding case: ".SLUICE" is the same folder where case is ignored.
  if (key == kOwnFolder || key.starts_with(std::string(kOwnFolder) + '/'))
    refuse(path, subject, "stands where Sluice keeps its own files");
  return folded_path;
}

/// Refuses two equal paths, and a file where another path has a folder. Either would make one file overwrite
/// another, on some file systems only.
void check_distinct(std::vector<FoldedPath> paths, std::string_view subject) {
  // '/' sorts first, so that everything below a folder "a" directly follows "a".
  const auto rank = [](char c) { return c == '/' ? 0 : static_cast<unsigned char>(c) + 1; };
  std::ranges::stable_sort(paths, [&](const FoldedPath& a, const FoldedPath& b) {
    return std::ranges::lexicographical_compare(a.key, b.key, {}, rank, rank);
  });
  for (std::size_t i = 1; i < paths.size(); ++i) {
    const FoldedPath& before = paths[i - 1];
    const FoldedPath& path = paths[i];
    if (path.key == before.key)
      refuse(*path.path, subject, "is the same name as '" + *before.path + "' where case is ignored");
    if (path.key.starts_with(before.key + '/')) refuse(*before.path, subject, "is both a file and a folder");
  }
}

}  // namespace

std::uint64_t ReleaseLayout::payload_bytes() const {
  std::uint64_t total = 0;
  for (const ReleaseFile& file : files)
    if (!file.pad) total += file.length_bytes;
  return total;
}

void check_release_path(std::string_view path, std::string_view subject) {
  if (path.empty()) refuse(path, subject, "is empty");
  check_characters(path, subject);
  if (path.front() == '/') refuse(path, subject, "is absolute");
  std::size_t elements = 0;
  for (std::size_t start = 0; start <= path.size(); ++elements) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    check_element(path.substr(start, end - start), path, subject);
    start = end + 1;
  }
  if (elements > kElementsMax) {
    refuse(path, subject,
           "has " + std::to_string(elements) + " elements, expected at most " + std::to_string(kElementsMax));
  }
}

void check_release_names(const ReleaseLayout& layout, std::string_view subject) {
  check_release_path(layout.name, subject);
  if (layout.name.find('/') != std::string::npos)
    refuse(layout.name, subject, "a release's name has one element");
  static_cast<void>(fold(layout.name, subject));

  std::vector<FoldedPath> paths;
  for (const ReleaseFile& file : layout.files) {
    check_release_path(file.path, subject);
    // Pad files are never created, and several may have one name (BEP 47).
    if (!file.pad) paths.push_back(fold(file.path, subject));
  }
  check_distinct(std::move(paths), subject);
}

void check_normal_names(const ReleaseLayout& layout, std::string_view subject) {
  const auto check = [&](const std::string& path) {
    if (base::to_nfc(path) != path) refuse(path, subject, "is not in Unicode's normal form C");
  };
  check(layout.name);
  for (const ReleaseFile& file : layout.files) check(file.path);
}

}  // namespace sluice::format
