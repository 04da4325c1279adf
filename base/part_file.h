#pragma once
// A file that may take several runs to make. It is written under a hidden name in its folder, with a journal
// next to it. Both stay when the process is killed, interrupted or out of disk space, so that the next run
// can resume. AtomicFile is for a file that one run makes.
//
//   FOLDER/.NAME.part           the part file; its writer holds a lock on it
//   FOLDER/.NAME.part.journal   the writer's record of what is finished
//
// When NAME is a symbolic link of the user, all of this is about its target, and the link stays. Part files
// and journals that are links, have hard links or belong to another user than this one or root are
// Error{usage} or Error{io}: they were put there by somebody else.
//
// After a crash the caller decides what of their content it can trust: only what was synced is sure to be
// there.

#include <filesystem>
#include <string_view>

#include "base/file.h"

namespace sluice::base {

constexpr std::string_view kPartEnding = ".part";
constexpr std::string_view kPartJournalEnding = ".part.journal";

class PartFile final {
 public:
  /// Opens the files of an earlier run, or creates both empty. When the part file is empty, the journal is
  /// emptied too. Error{usage} when another process or object has the part file open.
  explicit PartFile(const std::filesystem::path& final_path);

  [[nodiscard]] const std::filesystem::path& final_path() const { return final_path_; }
  [[nodiscard]] File& file() { return file_; }
  [[nodiscard]] File& journal() { return journal_; }

  /// Makes the file durable, renames it to its final name and removes the journal.
  void commit();
  /// Removes both files.
  void discard();

 private:
  std::filesystem::path final_path_;
  File file_;
  File journal_;
};

/// The path of the part file that becomes `final_path`.
[[nodiscard]] std::filesystem::path part_path(const std::filesystem::path& final_path);

/// Removes the part file and journal of an earlier run, unless a process is writing them. A symbolic link is
/// not followed here.
void discard_part_file(const std::filesystem::path& final_path);

}  // namespace sluice::base
