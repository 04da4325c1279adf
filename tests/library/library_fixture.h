#pragma once
// A user's folders below one temporary folder, and an observer that writes down every call.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/hasher.h"
#include "base/signature.h"
#include "library/library.h"
#include "tests/support/temp_dir.h"

namespace sluice::tests {

class RecordingObserver final : public library::Observer, public fetch::FetchObserver {
 public:
  void on_warning(std::string_view message) override { warnings.emplace_back(message); }
  void on_note(std::string_view message) override { notes.emplace_back(message); }
  void on_signature(const library::SignatureReport& report) override { signatures.push_back(report); }
  void on_damage(const verify::Report& report) override { damage.push_back(report); }
  void on_repair(const fetch::RepairResult& result) override { repairs.push_back(result); }
  bool confirm(const std::vector<std::string>& explanation, std::string_view) override {
    std::string& lines = explanations.emplace_back();
    for (const std::string& line : explanation) lines += line + "\n";
    return answer;
  }
  base::Progress& progress() override { return progress_; }
  fetch::FetchObserver& fetch_progress() override { return *this; }
  void on_work_end() override { ++work_ends; }

  void on_layout(const format::ReleaseLayout& layout) override { layouts.push_back(layout.name); }
  void on_status(const fetch::FetchStatus&) override {}

  bool answer = false;  ///< to every question
  std::vector<std::string> warnings;
  std::vector<std::string> notes;
  std::vector<library::SignatureReport> signatures;
  std::vector<verify::Report> damage;
  std::vector<fetch::RepairResult> repairs;
  std::vector<std::string> explanations;
  std::vector<std::string> layouts;
  int work_ends = 0;

 private:
  base::NoProgress progress_;
};

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::create_directories(path.parent_path());
  base::write_file(path, base::as_bytes(text));
}

struct LibraryFixture {
  TempDir dir;
  library::Folders folders{dir / "data", dir / "store", dir / "trusted"};
  RecordingObserver observer;
  library::Context context{folders, observer, {}};

  /// A known release whose manifest has these further members.
  void add_release(const std::string& name, const std::string& members = "") const {
    write_text(folders.data / "manifests" / (name + ".json"),
               R"({"manifest": 1, "name": ")" + name + "\"" + (members.empty() ? "" : ", " + members) + "}");
  }

  /// Signs `file` and writes FILE.minisig.
  static void sign_file(const std::filesystem::path& file, const base::SecretKey& key) {
    const std::string content = base::read_text_file(file);
    const auto signature = base::sign(base::hash<base::Blake2b512>(base::as_bytes(content)), key, "released");
    write_text(library::signature_path(file), base::to_text(signature));
  }
};

/// "<sha256>  name", a line of a checksum list.
inline std::string sums_line(std::string_view content, const std::string& name) {
  return base::to_hex(base::hash<base::Sha256>(base::as_bytes(content))) + "  " + name + "\n";
}

}  // namespace sluice::tests
