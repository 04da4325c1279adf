#pragma once
// These functions decide in one place, before the first byte of work, what a command may write: an output
// never destroys what the user has (docs/decisions/0018).
//
//   - An output that is an input of the command, by a hard or symbolic link too, is refused.
//   - Only regular files are replaced. A symbolic link of the user is followed: its target is written, and
//     the link stays. Folders, devices, pipes, sockets and links of other users are refused.
//   - An existing file that the command did not make is replaced only with --overwrite. The command says
//     which files it made (OutputRule::problem). An empty file holds nothing to lose.
//   - The folder of the output exists and can be written.
//
// Refusals are Error{usage}; a folder that the system does not let us write is Error{io}. AtomicFile and
// PartFile repeat what can change while a command works: they never replace anything but a regular file.
// Functions keep no state and may be called by several threads at once.

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::base {

/// The files that a command reads. A folder stands for all files below it, behind links to files, too.
class InputFiles {
 public:
  InputFiles() = default;
  InputFiles(std::initializer_list<std::filesystem::path> paths) : paths_(paths) {}

  /// A path that does not exist is no input.
  void add(std::filesystem::path path) { paths_.push_back(std::move(path)); }

  /// The input that is the same file as `output`, compared by device and inode.
  [[nodiscard]] std::optional<std::filesystem::path> find(const std::filesystem::path& output) const;

 private:
  std::vector<std::filesystem::path> paths_;
};

struct OutputRule {
  const InputFiles& inputs;
  /// Says why an existing file is not one that the command made, as the rest of a sentence ("is no torrent");
  /// empty when the command made it, so that it may be replaced. Without a function no file is.
  std::function<std::string(const std::filesystem::path&)> problem = {};
  bool overwrite = false;          ///< whether the user asked to replace what is there
  std::string_view option = "-o";  ///< the option that takes another name; empty when there is none
  bool can_overwrite = true;       ///< whether the command has --overwrite
};

/// Refuses an output against which the rule speaks.
void require_output(const std::filesystem::path& path, const OutputRule& rule);

/// True when the file has to be written: it does not exist, or holds something else and may be replaced. A
/// file that holds the content already is left alone, so that repeating a command changes nothing. Refuses as
/// require_output().
[[nodiscard]] bool needs_writing(const std::filesystem::path& path, Bytes content, const OutputRule& rule);

/// The file that `given` stands for: FOLDER/`name` for an existing folder and for a name that ends in '/',
/// else `given`. A folder named by the slash is created when its parent exists, else Error{usage}.
[[nodiscard]] std::filesystem::path output_path(const std::string& given, std::string_view name);

/// Error{usage} when the folder that will hold `path` does not exist, Error{io} when it cannot be written or
/// is none.
void require_output_folder(const std::filesystem::path& path);

/// The path that is written when `path` is the output: symbolic links of this user and of root are followed.
/// Error{usage} for links of others, and when it leads to anything but a regular file or a free name.
[[nodiscard]] std::filesystem::path output_target(const std::filesystem::path& path);

/// Error{usage} when there is anything but a regular file under this name.
void require_replaceable(const std::filesystem::path& path);

}  // namespace sluice::base
