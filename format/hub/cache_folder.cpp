#include "format/hub/cache_folder.h"

#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModelPrefix = "models--";
constexpr std::uint64_t kRefBytesMax = 256;

/// The path without a slash at its end, absolute, links in it not resolved.
fs::path plain(const fs::path& path) {
  const fs::path absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute : absolute.parent_path();
}

bool is_cache_of_model(const fs::path& folder) {
  std::error_code absent;
  return folder.filename().string().starts_with(kModelPrefix) &&
         fs::is_directory(folder / "snapshots", absent);
}

/// The cache folder of which `folder` is a snapshot; empty when it is none.
fs::path model_of_snapshot(const fs::path& folder) {
  const fs::path path = plain(folder);
  const fs::path model = path.parent_path().parent_path();
  return path.parent_path().filename() == "snapshots" && is_cache_of_model(model) ? model : fs::path();
}

/// The snapshot that refs/main names; empty when it names none. The text must be one path element.
fs::path main_snapshot(const fs::path& model) {
  std::error_code absent;
  const fs::path ref = model / "refs" / "main";
  if (!fs::is_regular_file(ref, absent)) return {};
  std::string revision = base::read_text_file(ref, kRefBytesMax);
  while (!revision.empty() && (revision.back() == '\n' || revision.back() == ' ')) revision.pop_back();
  if (revision.empty() || revision == "." || revision == ".." || revision.find('/') != std::string::npos)
    return {};
  const fs::path snapshot = model / "snapshots" / revision;
  return fs::is_directory(snapshot, absent) ? snapshot : fs::path();
}

}  // namespace

fs::path resolve_cache_folder(const fs::path& path) {
  const fs::path model = plain(path);
  if (!is_cache_of_model(model)) return path;
  if (const fs::path snapshot = main_snapshot(model); !snapshot.empty()) return snapshot;
  std::vector<fs::path> snapshots;
  std::error_code unreadable;
  for (auto entry = fs::directory_iterator(model / "snapshots", unreadable);
       !unreadable && entry != fs::directory_iterator(); entry.increment(unreadable)) {
    std::error_code broken;
    if (entry->is_directory(broken)) snapshots.push_back(entry->path());
  }
  if (snapshots.size() == 1) return snapshots.front();
  throw base::Error(base::ErrorKind::usage,
                    path.string() + ": holds " + std::to_string(snapshots.size()) +
                        " snapshots and no refs/main that names one: name a folder in its snapshots/");
}

std::optional<fs::path> find_cache_blobs(const fs::path& folder) {
  const fs::path model = model_of_snapshot(folder);
  if (model.empty()) return std::nullopt;
  std::error_code absent;
  // A model's folder that is a link itself is the user's own; one in place of blobs/ is not followed.
  if (fs::symlink_status(model / "blobs", absent).type() != fs::file_type::directory) return std::nullopt;
  fs::path blobs = fs::canonical(model / "blobs", absent);
  return absent ? std::nullopt : std::optional(std::move(blobs));
}

bool leads_into(const fs::path& link, const fs::path& blobs) {
  std::error_code broken;
  const fs::path target = fs::canonical(link, broken);
  return !broken && target.parent_path() == blobs && fs::is_regular_file(target, broken);
}

std::string cached_model_name(const fs::path& folder) {
  const std::string name = model_of_snapshot(folder).filename().string();
  const std::size_t mark = name.rfind("--");
  return name.empty() || mark == std::string::npos ? std::string() : name.substr(mark + 2);
}

}  // namespace sluice::format
