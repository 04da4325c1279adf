#include "format/release_layout.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>

#include "base/error.h"
#include "base/text.h"

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

// What file systems that ignore case, or the difference between composed and decomposed letters, see as one
// name (Unicode 15, D145).
std::string folded(std::string_view path, std::string_view subject) {
  utf8proc_uint8_t* text = nullptr;
  const auto length = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(path.data()), static_cast<utf8proc_ssize_t>(path.size()),
      &text, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(text, &std::free);
  if (length < 0) refuse(path, subject, utf8proc_errmsg(length));
  return {reinterpret_cast<const char*>(text), static_cast<std::size_t>(length)};
}

/// The paths of one release, as a file system sees them that does not tell cases apart.
class FoldedPaths {
 public:
  explicit FoldedPaths(std::string_view subject) : subject_(subject) {}

  void add(const std::string& path) {
    const std::string key = folded(path, subject_);
    if (key == kOwnFolder || key.starts_with(std::string(kOwnFolder) + '/'))
      refuse(path, subject_, "stands where Sluice keeps its own files");
    const auto [other, is_new] = files_.emplace(key, path);
    if (!is_new) refuse(path, subject_, "is the same name as '" + other->second + "' where case is ignored");
    for (auto slash = key.find('/'); slash != std::string::npos; slash = key.find('/', slash + 1))
      folders_.emplace(key.substr(0, slash));
  }

  void check_files_against_folders() const {
    for (const auto& [key, path] : files_)
      if (folders_.contains(key)) refuse(path, subject_, "is both a file and a folder");
  }

 private:
  std::string_view subject_;
  std::map<std::string, std::string> files_;  // folded -> as written
  std::set<std::string> folders_;             // folded
};

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
  FoldedPaths(subject).add(layout.name);

  FoldedPaths paths(subject);
  for (const ReleaseFile& file : layout.files) {
    check_release_path(file.path, subject);
    // Pad files are never created, and several may have one name (BEP 47).
    if (!file.pad) paths.add(file.path);
  }
  paths.check_files_against_folders();
}

}  // namespace sluice::format
