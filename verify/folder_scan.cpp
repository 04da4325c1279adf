// Lists a folder with lstat(), so that symbolic links are seen as links. The list can be outdated when a file
// is opened: reading then finds out (ReadState::missing, changed).

#include "verify/folder_scan.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "base/file.h"
#include "base/part_file.h"
#include "format/hub/cache_folder.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOwnFolder = ".sluice";

/// True for files that Sluice makes while it works; they would be reported as extra files of the release. The
/// patterns are exact, because a file that is left out is not verified.
bool is_own(const std::string& path, std::string_view name) {
  if (path == kOwnFolder) return true;
  if (!name.starts_with('.')) return false;
  return name.ends_with(base::kPartEnding) || name.ends_with(base::kPartJournalEnding) ||
         base::is_temporary_name(name);
}

FolderEntry entry_of(const struct stat& status) {
  if (S_ISREG(status.st_mode)) return {EntryKind::file, static_cast<std::uint64_t>(status.st_size)};
  if (S_ISDIR(status.st_mode)) return {EntryKind::folder};
  if (S_ISLNK(status.st_mode)) return {EntryKind::symlink};
  return {EntryKind::other};
}

/// The entry at a path, which lstat() has described. A link inside the cache of huggingface_hub that stays
/// among the blobs of its model counts as the file that it leads to.
FolderEntry entry_at(const fs::path& path, const struct stat& status, const std::optional<fs::path>& blobs) {
  const FolderEntry entry = entry_of(status);
  if (entry.kind != EntryKind::symlink || !blobs || !format::leads_into(path, *blobs)) return entry;
  struct stat target {};
  return ::stat(path.c_str(), &target) == 0 ? entry_of(target) : entry;
}

/// stat() follows links here: the user has named this folder, so a link to it is the user's own.
void require_folder(const fs::path& folder) {
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) base::throw_errno(folder, "open folder", errno);
  if (!S_ISDIR(status.st_mode)) throw base::Error(base::ErrorKind::io, folder.string() + ": is not a folder");
}

}  // namespace

std::string describe(EntryKind kind) {
  switch (kind) {
    case EntryKind::file: return {};
    case EntryKind::folder: return "is a folder, not a file";
    case EntryKind::symlink: return "is, or lies behind, a symbolic link, which is not followed";
    case EntryKind::other: return "is not a regular file";
    case EntryKind::unreadable: return "cannot be looked at: the system refuses";
  }
  return {};
}

FolderScan::FolderScan(const fs::path& folder) : blobs_(format::find_cache_blobs(folder)) {}

FolderScan FolderScan::walk(const fs::path& folder) {
  require_folder(folder);
  FolderScan scan(folder);
  std::vector<std::string> pending;
  try {
    // A folder that cannot be listed at all is an error; one below it is a finding about the release.
    scan.add_children(folder, "", pending);
  } catch (const fs::filesystem_error& error) {
    base::throw_errno(folder, "read folder", error.code().value());
  }
  // A stack instead of recursion: the depth of the folders is not under our control.
  while (!pending.empty()) {
    const std::string path = std::move(pending.back());
    pending.pop_back();
    try {
      scan.add_children(folder / path, path + '/', pending);
    } catch (const fs::filesystem_error&) {
      scan.entries_.at(path).kind = EntryKind::unreadable;
    }
  }
  return scan;
}

void FolderScan::add_children(const fs::path& folder, const std::string& prefix,
                              std::vector<std::string>& pending) {
  for (const fs::directory_entry& child : fs::directory_iterator(folder)) {
    const std::string name = child.path().filename().string();
    const std::string path = prefix + name;
    if (is_own(path, name)) continue;
    struct stat status {};
    const bool seen = ::lstat(child.path().c_str(), &status) == 0;
    if (!seen && errno == ENOENT) continue;  // removed since it was listed
    const FolderEntry entry =
        seen ? entry_at(child.path(), status, blobs_) : FolderEntry{EntryKind::unreadable};
    entries_.emplace(path, entry);
    if (entry.kind == EntryKind::folder) pending.push_back(path);
  }
}

FolderScan FolderScan::look_up(const fs::path& folder, const std::vector<std::string>& paths) {
  require_folder(folder);
  FolderScan scan(folder);
  for (const std::string& path : paths) {
    // Element by element, so that a symbolic link on the way is found.
    std::size_t slash = path.find('/');
    while (slash != std::string::npos && scan.add_path(folder, path.substr(0, slash)))
      slash = path.find('/', slash + 1);
    if (slash == std::string::npos) static_cast<void>(scan.add_path(folder, path));
  }
  return scan;
}

/// True when `path` is a folder, so that paths below it can exist.
bool FolderScan::add_path(const fs::path& folder, const std::string& path) {
  struct stat status {};
  if (::lstat((folder / path).c_str(), &status) == 0) {
    return entries_.insert_or_assign(path, entry_at(folder / path, status, blobs_)).first->second.kind ==
           EntryKind::folder;
  }
  // ENOENT and ENOTDIR say that the path does not exist. Other errors, such as EACCES, leave that open, so
  // the entry is unreadable and not missing.
  if (errno != ENOENT && errno != ENOTDIR)
    entries_.insert_or_assign(path, FolderEntry{EntryKind::unreadable});
  return false;
}

const FolderEntry* FolderScan::find(std::string_view path) const {
  if (const auto found = entries_.find(path); found != entries_.end()) return &found->second;
  // The nearest ancestor that was seen decides: below a link or a folder that could not be listed, the path
  // may exist; below any other entry it does not.
  for (std::size_t slash = path.rfind('/'); slash != std::string_view::npos && slash > 0;
       slash = path.rfind('/', slash - 1)) {
    const auto parent = entries_.find(path.substr(0, slash));
    if (parent == entries_.end()) continue;
    const EntryKind kind = parent->second.kind;
    return kind == EntryKind::symlink || kind == EntryKind::unreadable ? &parent->second : nullptr;
  }
  return nullptr;
}

}  // namespace sluice::verify
