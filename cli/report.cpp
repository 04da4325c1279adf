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
constexpr std::size_t kPlacesShown = 4;

// "tensors" has the names alone; "places" says more of each, and what lies in the range beside tensors.
Json damaged_json(const verify::DamagedRange& range) {
  Json tensors = Json::array();
  Json places = Json::array();
  for (const auto& tensor : range.tensors) {
    tensors.push_back(tensor.name);
    Json place = Json::object({{"tensor", tensor.name}});
    if (tensor.rows) place.set("rows", Json::array_of(std::vector{tensor.rows->first, tensor.rows->last}));
    if (tensor.layer) place.set("layer", *tensor.layer);
    if (tensor.expert) place.set("expert", *tensor.expert);
    places.push_back(std::move(place));
  }
  for (const auto& part : range.parts) places.push_back(Json::object({{"part", part}}));
  return Json::object({{"offset", range.range.offset_bytes},
                       {"length", range.range.length_bytes},
                       {"tensors", std::move(tensors)},
                       {"places", std::move(places)}});
}

Json file_event(const char* event_name, const verify::FileReport& file) {
  Json damaged = Json::array();
  for (const auto& range : file.damaged) {
    damaged.push_back(damaged_json(range));
  }
  auto event = Json::object({{"event", event_name},
                             {"path", file.path},
                             {"state", verify::to_string(file.state)},
                             {"bytes", file.bytes},
                             {"damaged", std::move(damaged)}});
  if (!file.problem.empty()) event.set("problem", file.problem);
  return event;
}

std::string place_text(const verify::TouchedTensor& tensor) {
  std::string text = base::to_printable(tensor.name);
  if (!tensor.rows) return text;
  if (tensor.rows->first == tensor.rows->last) return text + ", row " + std::to_string(tensor.rows->first);
  return text + ", rows " + std::to_string(tensor.rows->first) + "-" + std::to_string(tensor.rows->last);
}

// "layers.17.feed_forward.experts.3.w2.weight, rows 812-819; padding"
std::string places_text(const verify::DamagedRange& range) {
  std::vector<std::string> places;
  for (const auto& tensor : range.tensors) places.push_back(place_text(tensor));
  for (const auto& part : range.parts) places.push_back(base::to_printable(part));
  std::string text;
  for (std::size_t i = 0; i < std::min(places.size(), kPlacesShown); ++i)
    text += (i == 0 ? ": " : "; ") + places[i];
  if (places.size() > kPlacesShown) text += " and " + std::to_string(places.size() - kPlacesShown) + " more";
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
    console.print("    bytes " + std::to_string(range.range.offset_bytes) + " to " +
                  std::to_string(range.range.end_bytes()) + places_text(range));
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
  std::map<FileState, std::size_t> counts;
  for (const auto& file : report.files) ++counts[file.state];
  std::vector<std::string> wrong;
  for (const auto& [state, count] : counts) {
    if (state != FileState::ok)
      wrong.push_back(std::to_string(count) + " " + std::string(verify::to_string(state)));
  }
  // Files that nothing speaks of do not spoil a proof, and are no part of it either.
  if (report.ok)
    return text + "proven by " + joined(report.proven_by) + (wrong.empty() ? "" : "; " + joined(wrong));
  const bool nothing_promised = std::ranges::all_of(report.files, [](const verify::FileReport& file) {
    return file.state == FileState::unproven || file.state == FileState::extra;
  });
  if (nothing_promised) return text + "there is nothing to verify against";
  text += "verification FAILED: " + joined(wrong);
  if (report.damaged_bytes > 0) text += " (" + base::to_human_bytes(report.damaged_bytes) + " damaged)";
  return text;
}

}  // namespace sluice::cli
