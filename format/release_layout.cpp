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

/// A path and the form in which it is compared with others.
struct ComparedPath {
  std::string key;
  const std::string* path = nullptr;
};

/// Two paths of which one has the other's name, or lies in a folder of the other's name.
struct Clash {
  const std::string* first = nullptr;
  const std::string* second = nullptr;
  bool same = false;  ///< false: `first` is a file where `second` has a folder
};

std::string fold(const std::string& path, std::string_view subject) {
  auto folded = base::fold_case(path);
  if (!folded) refuse(path, subject, "is not UTF-8");
  // Compared after folding case: ".SLUICE" is the same folder where case is ignored.
  if (*folded == kOwnFolder || folded->starts_with(std::string(kOwnFolder) + '/'))
    refuse(path, subject, "stands where Sluice keeps its own files");
  return std::move(*folded);
}

std::optional<Clash> find_clash(std::vector<ComparedPath> paths) {
  // '/' sorts first, so that everything below a folder "a" directly follows "a".
  const auto rank = [](char c) { return c == '/' ? 0 : static_cast<unsigned char>(c) + 1; };
  std::ranges::stable_sort(paths, [&](const ComparedPath& a, const ComparedPath& b) {
    return std::ranges::lexicographical_compare(a.key, b.key, {}, rank, rank);
  });
  for (std::size_t i = 1; i < paths.size(); ++i) {
    const ComparedPath& before = paths[i - 1];
    const ComparedPath& path = paths[i];
    if (path.key == before.key) return Clash{before.path, path.path, true};
    if (path.key.starts_with(before.key + '/')) return Clash{before.path, path.path, false};
  }
  return std::nullopt;
}

/// Pad files are left out: they are never created, and several may have one name (BEP 47).
template <typename ToKey>
std::vector<ComparedPath> list_paths(const ReleaseLayout& layout, ToKey to_key) {
  std::vector<ComparedPath> paths;
  for (const ReleaseFile& file : layout.files)
    if (!file.pad) paths.push_back({to_key(file.path), &file.path});
  return paths;
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
  for (const ReleaseFile& file : layout.files) {
    check_release_path(file.path, subject);
    if (!file.pad) static_cast<void>(fold(file.path, subject));
  }
  const auto clash = find_clash(list_paths(layout, [](const std::string& path) { return path; }));
  if (!clash) return;
  if (clash->same) refuse(*clash->second, subject, "stands twice in the list of files");
  refuse(*clash->first, subject, "is both a file and a folder");
}

std::optional<CaseClash> find_case_clash(const ReleaseLayout& layout) {
  // Names that are not UTF-8 do not pass check_release_names; their own form serves as the key.
  const auto clash = find_clash(
      list_paths(layout, [](const std::string& path) { return base::fold_case(path).value_or(path); }));
  if (!clash) return std::nullopt;
  return CaseClash{*clash->first, *clash->second};
}

void check_portable_names(const ReleaseLayout& layout, std::string_view subject) {
  if (const auto clash = find_case_clash(layout))
    refuse(clash->second, subject, "is the same name as '" + clash->first + "' where case is ignored");
  const auto check = [&](const std::string& path) {
    if (base::to_nfc(path) != path) refuse(path, subject, "is not in Unicode's normal form C");
  };
  check(layout.name);
  for (const ReleaseFile& file : layout.files) check(file.path);
}

}  // namespace sluice::format
