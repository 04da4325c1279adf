#include "base/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/error.h"
#include "base/file.h"

namespace sluice::base {
namespace {

namespace fs = std::filesystem;

constexpr int kLinksMax = 40;  // as many as Linux follows in a path

[[noreturn]] void refuse(const fs::path& path, const std::string& problem) {
  throw Error(ErrorKind::usage, path.string() + ": " + problem);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// Names the kind of a file that is not a regular one.
std::string kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISLNK(mode)) return "a symbolic link";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

bool is_same_file(const fs::path& path, const struct stat& status) {
  struct stat other {};
  return ::stat(path.c_str(), &other) == 0 && other.st_dev == status.st_dev && other.st_ino == status.st_ino;
}

/// Looks at what is there and not at what the system says about the folder's rights: a file system that is
/// mounted read-only is found, too. The file has no name, so it leaves nothing behind.
int try_to_write(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor >= 0) {
    ::close(descriptor);
    return 0;
  }
  if (errno == EACCES || errno == EPERM || errno == EROFS) return errno;
  // Not every file system has files without a name.
  return ::faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

/// In a folder with the sticky bit, such as /tmp, only the owners of a file and of the folder may replace it.
void require_may_rename_over(const fs::path& path, const struct stat& status) {
  struct stat folder {};
  if (::geteuid() == 0 || status.st_uid == ::geteuid() || ::stat(folder_of(path).c_str(), &folder) != 0)
    return;
  if ((folder.st_mode & S_ISVTX) != 0 && folder.st_uid != ::geteuid())
    throw Error(ErrorKind::io, path.string() +
                                   ": belongs to another user, whose files cannot be replaced in " +
                                   folder_of(path).string());
}

std::string advice(const OutputRule& rule) {
  const std::string rename = rule.option.empty() ? "" : "give another name with " + std::string(rule.option);
  if (!rule.can_overwrite) return rename.empty() ? "" : "; " + rename;
  return "; --overwrite replaces it" + (rename.empty() ? "" : ", or " + rename);
}

}  // namespace

std::optional<fs::path> InputFiles::find(const fs::path& output) const {
  struct stat status {};
  // A name that is free is no input.
  if (::stat(output.c_str(), &status) != 0) return std::nullopt;
  for (const fs::path& input : paths_) {
    if (is_same_file(input, status)) return input;
    std::error_code failed;
    if (!fs::is_directory(input, failed)) continue;
    const auto options = fs::directory_options::skip_permission_denied;
    for (auto item = fs::recursive_directory_iterator(input, options, failed);
         !failed && item != fs::recursive_directory_iterator(); item.increment(failed))
      if (is_same_file(item->path(), status)) return item->path();
  }
  return std::nullopt;
}

void require_output(const fs::path& path, const OutputRule& rule) {
  // Asked before links are followed, because the answer is clearer than one about links.
  if (const auto input = rule.inputs.find(path)) {
    const std::string which = *input == path ? "" : " (" + input->string() + ")";
    refuse(path, "is an input of this command" + which + " and is not overwritten" +
                     (rule.option.empty() ? "" : "; give another name with " + std::string(rule.option)));
  }
  const fs::path target = output_target(path);
  require_output_folder(target);
  struct stat status {};
  if (::lstat(target.c_str(), &status) != 0) return;
  require_may_rename_over(target, status);
  if (rule.overwrite || status.st_size == 0) return;
  const std::string problem = rule.problem ? rule.problem(target) : "was not made by this command";
  if (!problem.empty()) refuse(path, "is there already and " + problem + advice(rule));
}

bool needs_writing(const fs::path& path, Bytes content, const OutputRule& rule) {
  std::error_code absent;
  // The sizes are compared first, so that never more is read than the content has.
  if (fs::is_regular_file(path, absent) && fs::file_size(path, absent) == content.size() &&
      std::ranges::equal(read_file(path, content.size()), content))
    return false;
  OutputRule strict = rule;
  strict.problem = [](const fs::path&) { return "says something else"; };
  require_output(path, strict);
  return true;
}

fs::path output_path(const std::string& given, std::string_view name) {
  std::error_code absent;
  if (fs::is_directory(given, absent)) return fs::path(given) / name;
  if (!given.ends_with('/')) return given;
  const fs::path folder = fs::path(given).parent_path();  // without the slash
  require_output_folder(folder);
  if (::mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST) throw_errno(folder, "create folder", errno);
  // Anything but a folder under this name is told now.
  if (!fs::is_directory(folder, absent)) refuse(folder, "is not a folder");
  return folder / name;
}

void require_output_folder(const fs::path& path) {
  const fs::path folder = folder_of(path);
  std::error_code absent;
  if (!fs::exists(folder, absent))
    refuse(path, "the folder " + folder.string() + " does not exist; create it first");
  if (!fs::is_directory(folder, absent)) throw_errno(folder, "write into the folder", ENOTDIR);
  if (const int cause = try_to_write(folder); cause != 0) throw_errno(folder, "write into the folder", cause);
}

fs::path output_target(const fs::path& path) {
  fs::path target = path;
  struct stat status {};
  for (int links = 0; ::lstat(target.c_str(), &status) == 0 && S_ISLNK(status.st_mode); ++links) {
    if (links == kLinksMax) refuse(path, "is a symbolic link that leads through too many others");
    // Whoever can write into the folder could have put the link there, to have this user write elsewhere.
    if (status.st_uid != ::geteuid() && status.st_uid != 0)
      refuse(target, "is a symbolic link of another user (uid " + std::to_string(status.st_uid) +
                         "), which is not followed; name its target instead");
    std::error_code failed;
    const fs::path next = fs::read_symlink(target, failed);
    if (failed) throw_errno(target, "read the symbolic link", failed.value());
    target = folder_of(target) / next;  // `next` replaces the folder when it is absolute
  }
  require_replaceable(target);
  return target;
}

void require_replaceable(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
    refuse(path, "is " + kind_of(status.st_mode) + "; only a regular file is replaced");
}

}  // namespace sluice::base
