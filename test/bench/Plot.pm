# Plot: grouped bars as SVG, with one palette for all plots: a system has the same colour everywhere.
package Plot;

use strict;
use warnings;

use List::Util qw(max min);
use POSIX qw(ceil floor);

my %colour = (
	direct => '#868e96', echo => '#495057', copy => '#ced4da', hyperpool => '#0b7285', exclusive => '#66b9c7',
	pooled => '#66b9c7', cached => '#0b7285', pgbouncer => '#e8890c', odyssey => '#d6517d', pgpool => '#8d6cc0'
);
our %label = (
	direct => 'direct', echo => 'bare echo', copy => 'byte copy', hyperpool => 'hyperpool', exclusive => 'hyperpool, share off',
	pooled => 'hyperpool, cache off', cached => 'hyperpool', pgbouncer => 'PgBouncer', odyssey => 'Odyssey', pgpool => 'Pgpool-II'
);

my ($width, $height) = (760, 380);
my %margin = (left => 72, right => 16, top => 78, bottom => 44);
my ($ink, $faint, $grid) = ('#212529', '#495057', '#e9ecef');

# bars(title, subtitle => , axis => , groups => [names], systems => [names], value => sub(group index, system), log => 0, mark => value): SVG.
# What has no value gets no bar; a mark is a line across.
sub bars
{
	my ($title, %plot) = @_;
	my @values = map { my $g = $_; grep { defined } map { $plot{value}->($g, $_) } @{ $plot{systems} } } 0 .. $#{ $plot{groups} };
	return undef unless @values;
	my @ticks = $plot{log} ? log_ticks(@values) : linear_ticks(@values);
	my $place = placer($plot{log}, @ticks);
	my @svg = (head($title, %plot), axis($plot{axis}, $place, @ticks), legend(@{ $plot{systems} }));
	my $span = ($width - $margin{left} - $margin{right}) / @{ $plot{groups} };
	for my $g (0 .. $#{ $plot{groups} })
	{
		my $left = $margin{left} + $g * $span;
		push @svg, text($left + $span / 2, $height - $margin{bottom} + 20, $plot{groups}[$g], 'anchor' => 'middle', size => 13);
		push @svg, group_of_bars($left, $span, $place, \%plot, $g);
	}
	push @svg, mark($place->($plot{mark})) if defined $plot{mark};
	return join "\n", @svg, '</svg>', '';
}

sub head
{
	my ($title, %plot) = @_;
	return (qq(<svg xmlns="http://www.w3.org/2000/svg" width="$width" height="$height" viewBox="0 0 $width $height" font-family="Helvetica, Arial, sans-serif" role="img">),
		"<title>$title</title>", qq(<rect width="$width" height="$height" fill="#ffffff"/>),
		text(16, 24, $title, size => 16, weight => 'bold'), text(16, 43, $plot{subtitle} // '', size => 12, fill => $faint));
}

sub text
{
	my ($x, $y, $text, %how) = @_;
	my $more = '';
	$more .= qq( text-anchor="$how{anchor}") if $how{anchor};
	$more .= qq( font-weight="$how{weight}") if $how{weight};
	$more .= qq( transform="rotate(-90 $x $y)") if $how{upright};
	$text =~ s/&/&amp;/g;
	$text =~ s/</&lt;/g;
	return sprintf '<text x="%.1f" y="%.1f" font-size="%g" fill="%s"%s>%s</text>', $x, $y, $how{size} // 12, $how{fill} // $ink, $more, $text;
}

# ---- scales ----

sub linear_ticks
{
	my (@values) = @_;
	my $most = max(@values, 1e-9);
	my $step = 10**floor(log($most / 4) / log(10));
	$step *= 2 if $most / $step > 10;
	$step *= 2.5 if $most / $step > 6;
	return map { $_ * $step } 0 .. ceil($most / $step);
}

sub log_ticks
{
	my (@values) = @_;
	my $low = floor(log(min(@values) / 2) / log(10));    # so that the least has a bar, too
	my $high = ceil(log(max(@values)) / log(10));
	$high++ if $high <= $low;
	return map { 10**$_ } $low .. $high;
}

# From a value to its y.
sub placer
{
	my ($log, @ticks) = @_;
	my $scale = $log ? sub { log($_[0]) } : sub { $_[0] };
	my ($low, $high) = ($scale->($ticks[0]), $scale->($ticks[-1]));
	my $room = $height - $margin{top} - $margin{bottom};
	return sub { my ($value) = @_; return $height - $margin{bottom} - $room * ($scale->($value) - $low) / ($high - $low) };
}

sub short
{
	my ($value) = @_;
	return sprintf('%gk', $value / 1000) if $value >= 10000 && $value == 1000 * int($value / 1000);
	return sprintf('%.0fk', $value / 1000) if $value >= 99950;
	return sprintf('%.1fk', $value / 1000) if $value >= 10000;
	return sprintf('%.0f', $value) if $value >= 100;
	return sprintf('%.1f', $value) if $value >= 10;
	return sprintf('%.2f', $value);
}

sub axis
{
	my ($title, $place, @ticks) = @_;
	my $right = $width - $margin{right};
	my @svg = text(18, ($margin{top} + $height - $margin{bottom}) / 2, $title, anchor => 'middle', upright => 1, fill => $faint);
	for my $tick (@ticks)
	{
		my $y = $place->($tick);
		push @svg, sprintf('<line x1="%g" x2="%g" y1="%.1f" y2="%.1f" stroke="%s"/>', $margin{left}, $right, $y, $y, $tick == $ticks[0] ? '#adb5bd' : $grid);
		push @svg, text($margin{left} - 8, $y + 4, $tick >= 10000 ? sprintf('%gk', $tick / 1000) : sprintf('%g', $tick), anchor => 'end', fill => $faint);
	}
	return @svg;
}

sub mark
{
	my ($y) = @_;
	return sprintf '<line x1="%g" x2="%g" y1="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="5 4"/>', $margin{left}, $width - $margin{right}, $y, $y, $ink;
}

sub legend
{
	my (@systems) = @_;
	my $x = $margin{left};
	my @svg;
	for my $system (@systems)
	{
		push @svg, sprintf('<rect x="%.1f" y="54" width="11" height="11" rx="2" fill="%s"/>', $x, $colour{$system}), text($x + 16, 64, $label{$system});
		$x += 36 + 6.8 * length $label{$system};
	}
	return @svg;
}

sub group_of_bars
{
	my ($left, $span, $place, $plot, $g) = @_;
	my @systems = grep { defined $plot->{value}->($g, $_) } @{ $plot->{systems} };
	my $bar = min(@{ $plot->{groups} } > 1 ? 46 : 90, 0.84 * $span / @{ $plot->{systems} });
	my $x = $left + ($span - $bar * @systems) / 2;
	my $floor = $height - $margin{bottom};
	my @svg;
	for my $system (@systems)
	{
		my $value = $plot->{value}->($g, $system);
		my $y = min($floor, $place->($value));
		push @svg, sprintf('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="1.5" fill="%s"><title>%s: %.4g</title></rect>',
			$x + 1, $y, $bar - 2, max(0.5, $floor - $y), $colour{$system}, $label{$system}, $value);
		push @svg, text($x + $bar / 2, $y - 4, short($value), anchor => 'middle', size => $bar < 26 ? 9 : 11, fill => $faint);
		$x += $bar;
	}
	return @svg;
}

1;
