// Part files. The lock is on the part file itself, which its holder may rename or remove: after getting the
// lock, a process therefore compares the opened file with the one that has the name now, and starts again
// when they differ.

#include "base/part_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

#include "base/directory.h"
#include "base/error.h"
#include "base/file_lock.h"
#include "base/output.h"

namespace sluice::base {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& final_path) {
  return final_path.has_parent_path() ? final_path.parent_path() : fs::path(".");
}

fs::path hidden_name(const fs::path& final_path, std::string_view ending) {
  constexpr std::size_t kNameBytesMax = 200;  // leaves room for the rest within NAME_MAX
  return "." + final_path.filename().string().substr(0, kNameBytesMax) + std::string(ending);
}

/// Error{usage} for a file that another user could have put there to have it written, or that has a second
/// name, under which it is something else. Directory has refused links and what is not a regular file.
void require_own(const File& file, const fs::path& final_path) {
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) throw_errno(file.path(), "stat", errno);
  std::string problem;
  if (status.st_uid != ::geteuid() && status.st_uid != 0)
    problem = "belongs to another user (uid " + std::to_string(status.st_uid) + ")";
  if (status.st_nlink > 1) problem = "has another name, too (a hard link)";
  if (!problem.empty())
    throw Error(ErrorKind::usage, file.path().string() + ": " + problem + ", and is not taken for the " +
                                      "unfinished file of " + final_path.string() +
                                      "; remove it, or give the output another name");
}

File open_locked(const fs::path& final_path) {
  const Directory folder = Directory::open(folder_of(final_path));
  while (true) {
    File file = folder.open_or_create(hidden_name(final_path, kPartEnding));
    if (!wait_for_lock(file))
      throw Error(ErrorKind::usage, final_path.string() + ": another process is making this file");
    if (!still_has_its_name(file)) continue;
    require_own(file, final_path);
    return file;
  }
}

File open_journal(const fs::path& final_path) {
  File file =
      Directory::open(folder_of(final_path)).open_or_create(hidden_name(final_path, kPartJournalEnding));
  require_own(file, final_path);
  return file;
}

}  // namespace

fs::path part_path(const fs::path& final_path) {
  return folder_of(final_path) / hidden_name(final_path, kPartEnding);
}

PartFile::PartFile(const fs::path& final_path)
    : final_path_(output_target(final_path)),
      file_(open_locked(final_path_)),
      journal_(open_journal(final_path_)) {
  // A journal without its file describes bytes that do not exist.
  if (file_.size_bytes() == 0) journal_.resize(0);
}

void PartFile::commit() {
  file_.sync();
  // The name was free or a regular file's at the beginning, which may be days ago.
  require_replaceable(final_path_);
  if (::rename(file_.path().c_str(), final_path_.c_str()) != 0)
    throw_errno(final_path_, "rename into place", errno);
  // A crash between the two steps leaves a journal without its file, which the next run empties.
  ::unlink(journal_.path().c_str());
  sync_folder(folder_of(final_path_));
}

// The journal goes first: a part file without a journal is only unproven, while a journal must not outlive
// its file.
void PartFile::discard() {
  ::unlink(journal_.path().c_str());
  ::unlink(file_.path().c_str());
}

void discard_part_file(const fs::path& final_path) {
  const fs::path path = folder_of(final_path) / hidden_name(final_path, kPartEnding);
  std::error_code unreadable;
  if (!fs::is_regular_file(fs::symlink_status(path, unreadable))) return;
  const File file = File::open_read(path);
  // A process that holds the lock is still making the file.
  if (!try_lock(file) || !still_has_its_name(file)) return;
  ::unlink((folder_of(final_path) / hidden_name(final_path, kPartJournalEnding)).c_str());
  ::unlink(path.c_str());
}

}  // namespace sluice::base
