#include "library/release_path.h"

#include "format/container_reader.h"

namespace sluice::library {

namespace fs = std::filesystem;

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

}  // namespace sluice::library
