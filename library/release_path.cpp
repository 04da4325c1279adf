#include "library/release_path.h"

#include "base/ascii.h"
#include "format/container_reader.h"

namespace sluice::library {

namespace fs = std::filesystem;

namespace {

/// The name with '#' for every digit: the shards of a checkpoint have equal patterns.
std::string pattern_of(const fs::path& path) {
  std::string name = path.filename().string();
  for (char& c : name)
    if (base::is_digit(c)) c = '#';
  return name;
}

}  // namespace

std::string own_name(const fs::path& path) {
  // "dir/" and "." end in a separator after this and have an empty file name, so the name is the parent's.
  const auto absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute.filename().string() : absolute.parent_path().filename().string();
}

fs::path parent_of(const fs::path& path) {
  const auto absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute.parent_path() : absolute.parent_path().parent_path();
}

bool is_one_file(const fs::path& path) {
  std::error_code absent;
  return fs::exists(path, absent) && !fs::is_directory(path, absent);
}

bool is_container_file(const fs::path& path) {
  std::error_code absent;
  return fs::is_regular_file(path, absent) && (path.extension() == ".sluice" || format::is_container(path));
}

base::InputFiles input_files(const fs::path& path) {
  std::error_code unreadable;
  if (!is_one_file(path)) {
    // A container in the release's folder was made there by an earlier conversion; it is no part of the
    // release.
    base::InputFiles inputs;
    for (const auto& item : fs::recursive_directory_iterator(path, unreadable))
      if (!item.is_regular_file(unreadable) || item.path().extension() != ".sluice") inputs.add(item.path());
    return inputs;
  }
  base::InputFiles inputs{path};
  if (is_container_file(path)) return inputs;
  for (const auto& item : fs::directory_iterator(parent_of(path), unreadable)) {
    const std::string extension = item.path().extension().string();
    if (extension == ".json" || extension == ".model" || extension == ".jinja" ||
        pattern_of(item.path()) == pattern_of(path))
      inputs.add(item.path());
  }
  return inputs;
}

}  // namespace sluice::library
