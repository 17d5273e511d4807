// C++ with its library: containers, strings, algorithms, streams of templates.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

struct Entry { std::string name; std::vector<int> values; double weight = 0.25; };

std::map<std::string, Entry> index(const std::vector<Entry> &all) {
    std::map<std::string, Entry> found;
    for (const Entry &entry : all) found[entry.name] = entry;
    return found;
}
std::vector<int> sorted(std::vector<int> values) {
    std::sort(values.begin(), values.end(), [](int a, int b) { return a % 7 < b % 7; });
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return values;
}
std::string join(const std::vector<std::string> &words, char by) {
    std::string text;
    for (const auto &word : words) { if (!text.empty()) text += by; text.append(word); }
    if (text.size() > 1000) throw std::length_error("long: " + std::to_string(text.size()));
    return text;
}
double weigh(const std::vector<Entry> &all) {
    return std::accumulate(all.begin(), all.end(), 0.0, [](double sum, const Entry &entry) { return sum + entry.weight * entry.values.size(); });
}
std::unordered_map<int, int> histogram(const std::vector<int> &values) {
    std::unordered_map<int, int> counts;
    for (int value : values) ++counts[value / 10];
    return counts;
}
std::shared_ptr<Entry> shared(std::unique_ptr<Entry> entry, const std::function<void(Entry &)> &change) {
    change(*entry);
    return std::shared_ptr<Entry>(std::move(entry));
}
