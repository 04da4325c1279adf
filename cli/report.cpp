#include "cli/report.h"

#include <algorithm>
#include <map>

#include "base/text.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

using format::Json;
using verify::FileState;

// People look at the first few; --json has them all.
constexpr std::size_t kRangesShown = 8;
constexpr std::size_t kTensorsShown = 3;

Json file_event(const char* event_name, const verify::FileReport& file) {
  Json damaged = Json::array();
  for (const auto& range : file.damaged) {
    damaged.push_back(Json::object({{"offset", range.offset_bytes},
                                    {"length", range.length_bytes},
                                    {"tensors", Json::array_of(range.tensors)}}));
  }
  auto event = Json::object({{"event", event_name},
                             {"path", file.path},
                             {"state", verify::to_string(file.state)},
                             {"bytes", file.bytes},
                             {"damaged", std::move(damaged)}});
  if (!file.problem.empty()) event.set("problem", file.problem);
  return event;
}

std::string tensors_text(const std::vector<std::string>& tensors) {
  std::string text;
  for (std::size_t i = 0; i < std::min(tensors.size(), kTensorsShown); ++i) {
    text += (i == 0 ? ": " : ", ") + base::to_printable(tensors[i]);
  }
  if (tensors.size() > kTensorsShown)
    text += " and " + std::to_string(tensors.size() - kTensorsShown) + " more";
  return text;
}

void print_file(const verify::FileReport& file, Console& console) {
  std::string line(1, verify::to_mark(file.state));
  line += " " + base::to_printable(file.path);
  if (file.state == FileState::ok) {
    line += "  " + base::to_human_bytes(file.bytes);
  } else {
    line += ": " + std::string(verify::to_string(file.state));
    if (!file.problem.empty()) line += ", " + base::to_printable(file.problem);
  }
  console.print(line);
  if (file.state == FileState::missing) return;
  for (std::size_t i = 0; i < std::min(file.damaged.size(), kRangesShown); ++i) {
    const auto& range = file.damaged[i];
    console.print("    bytes " + std::to_string(range.offset_bytes) + " to " +
                  std::to_string(range.offset_bytes + range.length_bytes) + tensors_text(range.tensors));
  }
  if (file.damaged.size() > kRangesShown) {
    console.print("    and " + std::to_string(file.damaged.size() - kRangesShown) + " more ranges");
  }
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " and " : ", ";
    text += words[i];
  }
  return text;
}

std::string files_text(std::size_t count) {
  return std::to_string(count) + (count == 1 ? " file" : " files");
}

}  // namespace

void tell_files(const verify::Report& report, Console& console) {
  for (const auto& file : report.files) {
    if (console.json()) {
      console.event(file_event("file", file));
    } else if (!console.quiet() || file.state != FileState::ok) {
      print_file(file, console);
    }
  }
}

void tell_damage(const verify::Report& report, Console& console) {
  for (const auto& file : report.files) {
    if (file.state == FileState::ok) continue;
    console.event(file_event("damage", file));
    if (!console.json()) print_file(file, console);
  }
}

Json report_result(const verify::Report& report, double seconds) {
  auto result = Json::object({{"event", "result"},
                              {"ok", report.ok},
                              {"files", report.files.size()},
                              {"bytes", report.bytes},
                              {"damaged_bytes", report.damaged_bytes},
                              {"proven_by", Json::array_of(report.proven_by)},
                              {"seconds", seconds}});
  if (!report.root_sha256.empty()) result.set("root_sha256", report.root_sha256);
  return result;
}

std::string report_summary(const verify::Report& report) {
  std::string text = files_text(report.files.size()) + ", " + base::to_human_bytes(report.bytes) + ": ";
  if (report.ok) return text + "proven by " + joined(report.proven_by);
  std::map<FileState, std::size_t> counts;
  for (const auto& file : report.files) ++counts[file.state];
  std::vector<std::string> wrong;
  for (const auto& [state, count] : counts) {
    if (state != FileState::ok)
      wrong.push_back(std::to_string(count) + " " + std::string(verify::to_string(state)));
  }
  const bool nothing_promised = std::ranges::all_of(report.files, [](const verify::FileReport& file) {
    return file.state == FileState::unproven || file.state == FileState::extra;
  });
  if (nothing_promised) return text + "there is nothing to verify against";
  text += "verification FAILED: " + joined(wrong);
  if (report.damaged_bytes > 0) text += " (" + base::to_human_bytes(report.damaged_bytes) + " damaged)";
  return text;
}

}  // namespace sluice::cli
