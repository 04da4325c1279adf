#pragma once
// A file that may take several runs to make: written under a hidden name beside its place, with a journal
// next to it, both of which stay when the process is killed, interrupted or out of disk space, so that the
// next run finds them. AtomicFile is for what one run makes.
//
//   FOLDER/.NAME.part           the file; locked by whoever writes it
//   FOLDER/.NAME.part.journal   what its writer notes down about it
//
// What stands in either after a crash is for the caller to judge: nothing here promises more than sync()
// does.

#include <filesystem>
#include <string_view>

#include "base/file.h"

namespace sluice::base {

constexpr std::string_view kPartEnding = ".part";
constexpr std::string_view kPartJournalEnding = ".part.journal";

class PartFile final {
 public:
  /// Opens what an earlier run left, or makes both files empty: a file without a byte has an empty journal.
  /// Error{usage} when another process or object holds it.
  explicit PartFile(const std::filesystem::path& final_path);

  [[nodiscard]] const std::filesystem::path& final_path() const { return final_path_; }
  [[nodiscard]] File& file() { return file_; }
  [[nodiscard]] File& journal() { return journal_; }

  /// Makes the file durable, gives it its name and removes the journal.
  void commit();
  /// Removes both.
  void discard();

 private:
  std::filesystem::path final_path_;
  File file_;
  File journal_;
};

/// Removes what an earlier run left of a part file, unless somebody is writing it.
void discard_part_file(const std::filesystem::path& final_path);

}  // namespace sluice::base
