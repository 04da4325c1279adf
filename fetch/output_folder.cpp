// Everything that a fetch checks in its output folder before the first byte: the lock, symbolic links, the
// file system and free space. Nothing here keeps a path open; the disk layer opens the files itself
// (fetch/disk/storage.h).

#include "fetch/output_folder.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/ascii.h"
#include "base/directory.h"
#include "base/error.h"
#include "base/file_lock.h"
#include "base/text.h"
#include "fetch/file_system.h"

namespace sluice::fetch {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

enum class Expected { folder, file };

/// Throws unless the path has the expected type or does not exist.
void check_entry(const fs::path& path, Expected expected) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return;
    base::throw_errno(path, "look at", errno);
  }
  if (S_ISLNK(info.st_mode))
    throw Error(ErrorKind::io, path.string() + ": is a symbolic link; fetch does not write through it");
  if (expected == Expected::folder && !S_ISDIR(info.st_mode))
    throw Error(ErrorKind::io, path.string() + ": exists and is not a folder");
  if (expected == Expected::file && !S_ISREG(info.st_mode))
    throw Error(ErrorKind::io, path.string() + ": exists and is not a regular file");
}

base::File open_lock(const fs::path& path) {
  base::File file = base::Directory::open(path.parent_path()).open_or_create(path.filename());
  // The worker of a fetch that was just killed may hold the lock for another moment.
  if (base::wait_for_lock(file)) return file;
  throw Error(ErrorKind::usage, path.parent_path().parent_path().string() +
                                    ": another process is fetching the same torrent into this folder");
}

/// Creates DIR/.sluice, unless it exists.
fs::path create_own_folder(const fs::path& folder) {
  fs::path own = folder / ".sluice";
  check_entry(own, Expected::folder);
  base::make_directories(own);
  return own;
}

}  // namespace

fs::path dht_state_path(const fs::path& cache_folder) {
  return cache_folder.empty() ? fs::path() : cache_folder / "dht.state";
}

OutputFolder::OutputFolder(fs::path folder, const std::string& key)
    : folder_(fs::absolute(folder).lexically_normal()),
      key_(key),
      lock_(open_lock(create_own_folder(folder_) / (key + ".lock"))) {}

bool OutputFolder::discard_foreign_journal() const {
  const base::Directory own = base::Directory::open(journal_path().parent_path());
  if (!own.find(journal_path().filename())) return false;
  if (base::only_this_user_writes(own.open_read(journal_path().filename()))) return false;
  fs::remove(journal_path());
  return true;
}

void OutputFolder::create_journal() const {
  const base::Directory own = base::Directory::open(journal_path().parent_path());
  if (own.find(journal_path().filename())) return;
  base::File journal = own.open_or_create(journal_path().filename());
  base::deny_others_writing(journal);
}

// The disk layer refuses symbolic links itself. This check is earlier and names the path, before anything is
// fetched.
void OutputFolder::check_paths(const format::ReleaseLayout& layout) const {
  const fs::path root = layout.single_file ? folder_ : folder_ / layout.name;
  if (!layout.single_file) check_entry(root, Expected::folder);
  std::set<fs::path> checked;  // many files share their folders
  for (const format::ReleaseFile& file : layout.files) {
    if (file.pad) continue;
    const fs::path path(file.path);
    fs::path folder = root;
    for (const fs::path& element : path.parent_path()) {
      folder /= element;
      if (checked.insert(folder).second) check_entry(folder, Expected::folder);
    }
    check_entry(root / path, Expected::file);
  }
}

// The lock's name has letters in lower case. Where case is ignored, its upper case names the same file.
void OutputFolder::check_case(const format::ReleaseLayout& layout) const {
  const auto clash = format::find_case_clash(layout);
  if (!clash) return;
  const fs::path lock = own_file(".lock");
  const auto found = base::identify(lock.parent_path() / base::to_upper(lock.filename().string()));
  const auto expected = base::identify(lock);
  if (!found || !expected || found->inode != expected->inode || found->device != expected->device) return;
  throw Error(ErrorKind::usage, folder_.string() + ": the file system ignores case, so that '" +
                                    clash->first + "' and '" + clash->second +
                                    "' would be one file; name another folder (-o)");
}

Preflight OutputFolder::preflight(const format::ReleaseLayout& layout,
                                  const std::vector<bool>& wanted) const {
  constexpr std::uint64_t kStatBlockBytes = 512;  // POSIX: the unit of st_blocks
  const FileSystem file_system = find_file_system(folder_);
  Preflight report;
  report.folder = folder_;
  report.file_system = file_system.name;
  if (!file_system.warning.empty())
    report.warnings.push_back(folder_.string() + ": " + file_system.name + " " + file_system.warning);
  const fs::path root = layout.single_file ? folder_ : folder_ / layout.name;
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    const format::ReleaseFile& file = layout.files[i];
    if (file.pad || !wanted[i]) continue;
    if (file_system.file_bytes_max && file.length_bytes > *file_system.file_bytes_max)
      throw Error(ErrorKind::io, (root / file.path).string() + ": " +
                                     base::to_human_bytes(file.length_bytes) + " are more than a file on " +
                                     file_system.name + " can hold");
    struct stat info {};
    std::uint64_t present_bytes = 0;
    if (::stat((root / file.path).c_str(), &info) == 0)
      present_bytes =
          static_cast<std::uint64_t>(info.st_blocks) * kStatBlockBytes;  // st_size would count holes
    report.wanted_bytes += file.length_bytes;
    // A file can occupy more than its length, since the last block is whole.
    report.present_bytes += std::min(present_bytes, file.length_bytes);
  }
  struct statvfs disk {};
  if (::statvfs(folder_.c_str(), &disk) != 0) base::throw_errno(folder_, "ask for free space of", errno);
  // f_bavail and not f_bfree: the difference is reserved for root.
  report.free_bytes = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  return report;
}

void OutputFolder::check_space(const Preflight& report) const {
  // The check is an early message and no promise: other programs can fill the disk later, and a write that
  // fails then is reported as no_space, too.
  const std::uint64_t needed_bytes = report.wanted_bytes - report.present_bytes;
  if (needed_bytes > report.free_bytes)
    throw Error(ErrorKind::no_space, folder_.string() + ": " + base::to_human_bytes(needed_bytes) +
                                         " are needed, " + base::to_human_bytes(report.free_bytes) +
                                         " are free");
}

}  // namespace sluice::fetch
